/** Proves that no failure ends the sidecar: it reports each with a code and a message, and retries. */
import assert from 'node:assert/strict';
import { existsSync, openSync, rmSync } from 'node:fs';
import { systemDisk } from '../../src/sidecar/config-file.ts';
import { until } from '../support/clock.ts';
import { freePort } from '../support/free-port.ts';
import { account, call, configText, type Pod, problem, type Reply, roundsEnded, runId, startPod } from './support.ts';

describe('the sidecar, when something fails', () => {
  let pod: Pod;

  beforeEach(async () => {
    pod = await startPod();
  });
  afterEach(() => pod.stop());

  /** Starts the sidecar with a failure, checks each place that reports it, ends the failure, and waits for recovery. */
  async function failsWith(code: string, says: RegExp, mend: () => void) {
    const sidecar = await pod.start();
    await roundsEnded(sidecar);
    const status = sidecar.status();
    assert.equal(status.state, code === 'run_revoked' ? 'revoked' : 'retrying');
    assert.equal(status.last_error?.code, code, status.last_error?.message);
    assert.match(status.last_error?.message ?? '', says);
    assert.ok((status.last_error?.what_to_do.length ?? 0) > 20);
    assert.ok(Date.parse(status.next_try ?? '') > pod.clock.now());
    const line = pod.lines.find((entry) => entry.code === code);
    assert.deepEqual([line?.level, line?.message], ['warn', status.last_error?.message]);
    const ready = await call(sidecar, '/readyz');
    assert.deepEqual([ready.status, ready.body.code], [503, code]);
    assert.equal((await call(sidecar, '/healthz')).status, 200);
    mend();
    await pod.clock.advance(Date.parse(status.next_try ?? '') - pod.clock.now());
    await until(() => sidecar.status().state === 'ready');
    assert.equal(pod.config(), configText(['acme-read']));
    assert.equal((await call(sidecar, '/readyz')).status, 200);
    return sidecar;
  }

  const fails = (title: string, reply: Reply, code: string, says: RegExp) =>
    it(`reports ${code}: ${title}`, async () => {
      pod.service.next.push(reply);
      await failsWith(code, says, () => undefined);
      assert.equal(pod.service.asked.length, 2);
    });

  it('reports run_unknown without a labels file and DOMINO_RUN_ID', async () => {
    rmSync(pod.environment.POD_INFO_PATH ?? '');
    const mend = () => void pod.put('labels', `app.kubernetes.io/name="${account}"\n`);
    await failsWith('run_unknown', /labels.*there is no labels file/, mend);
  });

  it('reports run_unknown for labels that name no run', async () => {
    pod.put('labels', 'app.kubernetes.io/name="ray"\n');
    const mend = () => void pod.put('labels', `dominodatalab.com/execution-id="${runId}"\n`);
    await failsWith('run_unknown', /labels name none/, mend);
  });

  it('reports token_proxy_unreachable without a token proxy', async () => {
    // A port that was free a moment ago.
    const port = await freePort();
    const sidecar = await pod.start({ DOMINO_API_PROXY: `http://127.0.0.1:${port}` });
    await roundsEnded(sidecar);
    const error = sidecar.status().last_error;
    assert.equal(error?.code, 'token_proxy_unreachable');
    assert.match(error?.message ?? '', /token proxy.*ECONNREFUSED/);
    assert.equal(pod.service.asked.length, 0);
  });

  it('reports token_proxy_unreachable when the token proxy drops the connection', async () => {
    pod.tokenProxy.next.push('cut');
    await failsWith('token_proxy_unreachable', /token proxy.*does not answer/, () => undefined);
  });

  it('reports token_proxy_failed when the token proxy answers 500', async () => {
    pod.tokenProxy.next.push({ status: 500, text: 'oops' });
    await failsWith('token_proxy_failed', /GET http\S+\/access-token: HTTP 500/, () => undefined);
  });

  it('reports token_proxy_failed when the token proxy answers with a login page, which is not logged', async () => {
    pod.tokenProxy.next.push({ text: '<!doctype html><title>Sign in</title>' });
    await failsWith('token_proxy_failed', /not have the form/, () => undefined);
    assert.ok(!JSON.stringify(pod.lines).includes('Sign in'));
  });

  it('reports token_proxy_failed when the token proxy’s answer is too long', async () => {
    pod.tokenProxy.next.push({ text: 'x'.repeat(500_000) });
    await failsWith('token_proxy_failed', /more than 65536 bytes/, () => undefined);
  });

  it('reports service_unknown_host when the service’s name is unknown', async () => {
    const sidecar = await pod.start({ DOMINO_IRSA_ENDPOINT: 'https://irsa-svc.invalid/map_iam_roles_to_pod_sa' });
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'service_unknown_host');
  });

  it('reports service_unreachable when the service does not listen', async () => {
    const port = await freePort();
    const sidecar = await pod.start({ DOMINO_IRSA_ENDPOINT: `http://127.0.0.1:${port}/map` });
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'service_unreachable');
  });

  fails(
    '400',
    problem(400, 'invalid_request'),
    'invalid_request',
    /HTTP 400, It says invalid_request, request id req-1/,
  );
  fails('401', problem(401, 'unauthenticated'), 'unauthenticated', /did not accept your Domino token/);
  fails('403', problem(403, 'forbidden'), 'forbidden', /does not allow you to do this \(HTTP 403, .*POST http/);
  fails('403 for a revoked run', problem(403, 'run_revoked'), 'run_revoked', /has shut this run out/);
  fails(
    '404 for a pod that the service does not see yet',
    problem(404, 'run_not_found'),
    'run_not_found',
    /does not see this run yet/,
  );
  fails(
    '404 from another server',
    { status: 404, text: 'nginx' },
    'endpoint_not_found',
    /leads somewhere else.*HTTP 404/,
  );
  fails('409', problem(409, 'shared_service_account'), 'shared_service_account', /shares its service account/);
  fails(
    '409 for too many roles',
    problem(409, 'too_many_roles'),
    'too_many_roles',
    /more AWS roles than one run can carry/,
  );
  fails('409', problem(409, 'kubernetes_refused'), 'kubernetes_refused', /Kubernetes refuses/);
  fails('429', problem(429, 'too_many_requests'), 'too_many_requests', /too many requests/);
  fails('503 while the grant is pending', problem(503, 'grant_pending'), 'grant_pending', /still writing your roles/);
  fails('503 for a full trust policy', problem(503, 'trust_policy_full'), 'trust_policy_full', /no room left/);
  fails('503 without Domino', problem(503, 'domino_unavailable'), 'service_unavailable', /cannot do its work/);
  fails('503 from a load balancer', { status: 503, text: 'no healthy upstream' }, 'service_unavailable', /HTTP 503/);
  fails('500', problem(500, 'internal'), 'service_failed', /failed \(HTTP 500/);
  fails('502', { status: 502, text: '<html>' }, 'service_failed', /HTTP 502/);
  fails('a redirect', { status: 302, headers: { location: '/login' } }, 'unexpected_answer', /HTTP 302/);
  fails('a login page', { text: '<!doctype html>\n' }, 'unexpected_answer', /no AWS config file/);
  fails('an empty answer', { text: '' }, 'unexpected_answer', /it is empty/);
  fails('an answer that is too long', { text: '#'.repeat(2_000_000) }, 'unexpected_answer', /more than 1048576 bytes/);
  fails(
    'an answer with too many bytes in fewer characters',
    { text: '\u{1f600}'.repeat(300_000) },
    'unexpected_answer',
    /more than 1048576 bytes/,
  );
  fails('a connection cut before the answer', 'cut', 'connection_cut', /cut before its answer was complete/);
  fails('a connection cut in the middle of the answer', 'cut in the middle', 'connection_cut', /ECONNRESET/);

  it('reports service_timeout after 60 s without an answer of the service', async () => {
    pod.service.next.push('hang');
    const sidecar = await pod.start();
    await until(() => pod.service.asked.length === 1);
    await pod.clock.advance(59_000);
    assert.equal(sidecar.status().last_round, null);
    await pod.clock.advance(1_000);
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'service_timeout');
    assert.match(sidecar.status().last_error?.message ?? '', /no answer within 60 s/);
  });

  it('reports token_proxy_unreachable after 5 s without an answer of the token proxy', async () => {
    pod.tokenProxy.next.push('hang');
    const sidecar = await pod.start();
    await until(() => pod.tokenProxy.asked.length === 1);
    await pod.clock.advance(5_000);
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'token_proxy_unreachable');
  });

  it('reports disk_full in /status, and keeps the old config file', async function () {
    if (!existsSync('/dev/full')) {
      console.warn(`SKIPPED: ${this.test?.fullTitle()}: this machine has no /dev/full`);
      return this.skip();
    }
    let full = false;
    const open: typeof openSync = (path, ...rest) => (full ? openSync('/dev/full', 'w') : openSync(path, ...rest));
    const sidecar = await pod.start({}, { disk: { ...systemDisk, openSync: open } });
    await sidecar.ready;
    full = true;
    pod.service.always = { text: configText(['acme-write']) };
    const refreshed = await call(sidecar, '/refresh');
    assert.equal(refreshed.status, 503);
    const { body: status } = await call(sidecar, '/status');
    assert.equal(status.state, 'stale');
    assert.match(JSON.stringify(status.last_error), /disk_full.*ENOSPC/);
    assert.equal(pod.config(), configText(['acme-read']));
    assert.deepEqual(
      (status.profiles as { name: string }[]).map(({ name }) => name),
      ['acme-read'],
    );
    // The old config works, so the workload is not delayed.
    assert.equal((await call(sidecar, '/readyz')).status, 200);
    full = false;
    await pod.clock.advance(30_000);
    await until(() => sidecar.status().state === 'ready');
    assert.equal(pod.config(), configText(['acme-write']));
  });

  it('fetches a new bearer token for each try, and logs none', async () => {
    pod.tokenProxy.next.push({ text: ' first.secret.token \n' }, { text: 'second.secret.token' });
    pod.service.next.push(problem(401, 'unauthenticated'));
    await failsWith('unauthenticated', /./, () => undefined);
    assert.deepEqual(
      pod.service.asked.map(({ authorization }) => authorization),
      ['Bearer first.secret.token', 'Bearer second.secret.token'],
    );
    assert.ok(!/secret\.token/.test(JSON.stringify(pod.lines)));
  });

  it('waits longer after each failure, up to 30 s, or as long as Retry-After says', async () => {
    pod.service.always = problem(503, 'grant_pending');
    const sidecar = await pod.start();
    const waits: number[] = [];
    for (let round = 1; round <= 9; round += 1) {
      await until(() => pod.service.asked.length === round);
      await roundsEnded(sidecar);
      const wait = Date.parse(sidecar.status().next_try ?? '') - pod.clock.now();
      waits.push(wait);
      if (round === 8) pod.service.always = problem(429, 'too_many_requests', { 'retry-after': '120' });
      await pod.clock.advance(wait - 1);
      assert.equal(pod.service.asked.length, round);
      await pod.clock.advance(1);
    }
    // Half-way between half a second and the bound, since the random number is always a half.
    assert.deepEqual(waits, [750, 1250, 2250, 4250, 8250, 15_250, 15_250, 15_250, 120_250]);
    assert.equal(pod.lines.filter(({ level }) => level === 'error').length, 1);
  });

  it('honours Retry-After as a date, and refuses refreshes until then', async () => {
    const until40 = new Date(pod.clock.now() + 40_000).toUTCString();
    pod.service.next.push(problem(429, 'too_many_requests', { 'retry-after': until40 }));
    const sidecar = await pod.start();
    await roundsEnded(sidecar);
    assert.equal(Date.parse(sidecar.status().next_try ?? '') - pod.clock.now(), 40_250);
    const early = await call(sidecar, '/refresh');
    assert.deepEqual([early.status, early.headers.get('retry-after')], [503, '41']);
    assert.equal(pod.service.asked.length, 1);
    await pod.clock.advance(40_000);
    assert.equal((await call(sidecar, '/refresh')).status, 200);
  });
});
