/** Proves the sidecar's HTTP calls, and what a refresh does and reports. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { connect } from 'node:net';
import { systemClock } from '../../src/lib/clock.ts';
import { probe } from '../../src/sidecar/probe.ts';
import { until } from '../support/clock.ts';
import { call, changesOf, configText, type Pod, problem, roundsEnded, runId, startPod } from './support.ts';

describe('the sidecar', () => {
  let pod: Pod;

  beforeEach(async () => {
    pod = await startPod();
  });
  afterEach(() => pod.stop());

  it('sends the run and the workload type to the service, and writes the answer to the config file', async () => {
    pod.put(
      'labels',
      `dominodatalab.com/execution-id="${runId}"\ndominodatalab.com/irsa-workload-type="cluster-worker"\n`,
    );
    const sidecar = await pod.start();
    await sidecar.ready;
    const [asked] = pod.service.asked;
    assert.deepEqual([asked?.method, asked?.path], ['POST', '/map_iam_roles_to_pod_sa']);
    assert.equal(asked?.authorization, 'Bearer header.payload.signature');
    assert.deepEqual(JSON.parse(asked?.body ?? ''), { run_id: runId, irsa_workload_type: 'cluster-worker' });
    assert.deepEqual(
      pod.tokenProxy.asked.map(({ method, path }) => `${method} ${path}`),
      ['GET /access-token'],
    );
    assert.equal(pod.config(), configText(['acme-read']));
  });

  it('answers /healthz with the text of earlier releases, on loopback only', async () => {
    pod.service.always = 'hang';
    const sidecar = await pod.start();
    const health = await call(sidecar, '/healthz');
    assert.deepEqual([health.status, health.text], [200, '{"status":"Healthy"}']);
    assert.match(sidecar.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  });

  it('becomes ready when a config is written, and stays ready when a later refresh fails', async () => {
    pod.service.next.push('hang');
    const sidecar = await pod.start();
    await until(() => pod.service.asked.length === 1);
    const before = await call(sidecar, '/readyz');
    assert.deepEqual([before.status, before.body.state], [503, 'starting']);
    assert.match(String(before.body.reason), /being fetched/);
    await pod.clock.advance(60_000);
    await roundsEnded(sidecar);
    await pod.clock.advance(1_000);
    await sidecar.ready;
    assert.equal((await call(sidecar, '/readyz')).status, 200);
    pod.service.always = 'cut';
    assert.equal((await call(sidecar, '/refresh')).status, 503);
    assert.equal((await call(sidecar, '/readyz')).status, 200);
    assert.equal(sidecar.status().state, 'stale');
  });

  it('answers a probe while it runs, and the probe reports when it does not', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    const port = Number(new URL(sidecar.url).port);
    assert.equal((await probe(port, systemClock)).ready, true);
    await sidecar.stop();
    const after = await probe(port, systemClock);
    assert.equal(after.ready, false);
    assert.match(after.text, /ECONNREFUSED/);
  });

  it('reports what a refresh changed: added, removed, changed, kept, refused', async () => {
    pod.service.next.push({ text: configText(['a', 'b', 'c']) });
    const sidecar = await pod.start();
    await sidecar.ready;
    const refused = '# d: refused, trust_policy_full: no room in acme-proxy';
    const moved = configText(['b', 'c', 'e'], undefined, refused).replace('111111111111:role/c', '111111111111:role/z');
    pod.service.always = { text: moved };
    const { status, body } = await call(sidecar, '/refresh');
    assert.equal(status, 200);
    const { seconds, next_try, ...rest } = body;
    assert.deepEqual(rest, {
      result: 'ok',
      config: 'written',
      added: ['e'],
      removed: ['a'],
      changed: ['c'],
      kept: ['b'],
      refused: [{ name: 'd', code: 'trust_policy_full', reason: 'no room in acme-proxy' }],
      proof_seconds: null,
    });
    assert.deepEqual([typeof seconds, Date.parse(String(next_try)) - pod.clock.now()], ['number', 900_000]);
    assert.equal(pod.config(), moved);
    assert.deepEqual(changesOf(await sidecar.refresh()), {
      config: 'unchanged',
      added: [],
      removed: [],
      changed: undefined,
      kept: ['b', 'c', 'e'],
    });
  });

  it('accepts GET and POST on /refresh, GET only on /status, and no other path', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    assert.equal((await call(sidecar, '/refresh', 'POST')).status, 200);
    const put = await call(sidecar, '/refresh', 'PUT');
    assert.deepEqual([put.status, put.headers.get('allow')], [405, 'GET, POST']);
    assert.equal((await call(sidecar, '/status', 'POST')).status, 405);
    assert.equal((await call(sidecar, '/nothing')).status, 404);
    assert.equal((await call(sidecar, '/refresh?now=1')).status, 200);
  });

  it('answers before an endless body ends, and closes the connection', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    const socket = connect(Number(new URL(sidecar.url).port), '127.0.0.1').setEncoding('utf8');
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    // The connection is reset while the client goes on sending.
    socket.on('error', () => undefined);
    const closed = new Promise<void>((resolve) => socket.on('close', () => resolve()));
    socket.write('POST /refresh HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000000\r\n\r\nx');
    await until(() => answer.includes('"next_try"'));
    assert.match(answer, /^HTTP\/1\.1 200 .*\r\n[\s\S]*"result": "ok"/);
    const part = Buffer.alloc(1_000_000);
    let sent = 0;
    while (!socket.destroyed && sent < 500) {
      sent += 1;
      if (!socket.write(part)) await Promise.race([once(socket, 'drain').catch(() => undefined), closed]);
    }
    assert.ok(sent < 100, `${sent} MB`);
  });

  it('makes one call to the service for two simultaneous refreshes', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    pod.service.next.push('hang');
    const [one, two] = [call(sidecar, '/refresh'), call(sidecar, '/refresh', 'POST')];
    await until(() => pod.service.asked.length === 2);
    // No event shows that the sidecar received a call; the answer to a third call shows that it received the first two.
    await call(sidecar, '/status');
    await pod.clock.advance(60_000);
    const answers = await Promise.all([one, two]);
    assert.deepEqual(
      answers.map(({ body }) => (body.error as { code: string }).code),
      ['service_timeout', 'service_timeout'],
    );
    assert.equal(pod.service.asked.length, 2);
  });

  it('continues a round after the client that requested it has disconnected', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    pod.service.always = { text: configText(['acme-write']) };
    pod.tokenProxy.next.push('hang');
    const asked = request(`${sidecar.url}/refresh`).on('error', () => undefined);
    asked.end();
    await until(() => pod.tokenProxy.asked.length === 2);
    asked.destroy();
    await pod.clock.advance(5_000);
    await roundsEnded(sidecar);
    await pod.clock.advance(1_000);
    await until(() => pod.config() === configText(['acme-write']));
  });

  it('shows its state in /status in fewer than 30 lines', async () => {
    pod.service.always = { text: configText(['a', 'b'], undefined, '# c: refused, role_not_found: no IAM role c') };
    const sidecar = await pod.start();
    await sidecar.ready;
    pod.service.next.push(problem(503, 'grant_pending', { 'retry-after': '2' }));
    await call(sidecar, '/refresh');
    const { text, body } = await call(sidecar, '/status');
    assert.deepEqual(body, JSON.parse(JSON.stringify(sidecar.status())));
    assert.equal(body.state, 'stale');
    assert.deepEqual(body.last_round, {
      at: new Date(pod.clock.now()).toISOString(),
      cause: 'refresh',
      seconds: 0,
      result: 'failed',
    });
    assert.deepEqual(body.profiles, [
      { name: 'a', role: 'arn:aws:iam::222222222222:role/a', proved: 'off' },
      { name: 'b', role: 'arn:aws:iam::222222222222:role/b', proved: 'off' },
    ]);
    assert.deepEqual(body.refused, [{ name: 'c', code: 'role_not_found', reason: 'no IAM role c' }]);
    assert.equal(body.run_id, runId);
    assert.ok(text.split('\n').length < 30, text);
    assert.match(text, /^ {4}\{ "name": "a", "role": ".*", "proved": "off" \},$/m);
  });

  it('refreshes every 15 minutes, and so gets new mappings', async () => {
    const sidecar = await pod.start();
    await sidecar.ready;
    pod.service.always = { text: configText(['acme-read', 'acme-new']) };
    await pod.clock.advance(900_000);
    await until(() => sidecar.status().profiles.length === 2);
    assert.equal(sidecar.status().last_round?.cause, 'timer');
  });

  it('reads the existing config file after a restart, and reports only changes to it', async () => {
    const first = await pod.start();
    await first.ready;
    await first.stop();
    const second = await pod.start();
    await second.ready;
    const line = pod.lines.filter(({ msg }) => msg === 'round done').at(-1);
    assert.deepEqual([line?.written, line?.added, line?.kept], [false, [], 1]);
  });
});
