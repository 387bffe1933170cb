/** Proves `/doctor`: the user, each role hop by hop, and the problems found, as text and as JSON. */
import assert from 'node:assert/strict';
import { request as httpRequest } from 'node:http';
import type { DoctorView } from '../../src/sidecar/doctor.ts';
import { environmentFindings, fileFindings, readEnvironment } from '../../src/sidecar/environment.ts';
import { until } from '../support/clock.ts';
import { type AwsPod, startAwsPod } from './aws-pod.ts';
import { problem, type Reply, roundsEnded } from './support.ts';

describe('the doctor of the sidecar', () => {
  let world: AwsPod;

  beforeEach(async () => {
    world = await startAwsPod(['acme-read', 'acme-write']);
  });
  afterEach(() => world.stop());

  const alice = JSON.stringify({ user: 'alice', domino_orgs: ['acme', 'acme-two'], run: {}, access: [] });
  async function ask(url: string, options: RequestInit = {}) {
    world.pod.service.next.push({ text: alice, headers: { 'content-type': 'application/json' } });
    const answer = await fetch(`${url}/doctor`, options);
    return { type: answer.headers.get('content-type') ?? '', text: await answer.text() };
  }

  it('reports in text the user, and the state of each hop of each role', async () => {
    world.setAccess('acme-write', false);
    const sidecar = await world.start();
    await until(() => world.session('acme-read') !== undefined);
    world.clock.skip(120_000);
    await roundsEnded(sidecar);
    let [type, text] = ['', ''];
    // A round that retries may consume the answer that is meant for the doctor.
    await until(async () => {
      ({ type, text } = await ask(sidecar.url));
      // The moved clock may have timed out a call: such a report does not count either.
      return text.includes('You are') && !text.includes('no answer within');
    }, 10_000);
    assert.match(type, /^text\/plain/);
    assert.match(
      text,
      /^You are alice to Domino, in acme, acme-two\. Run: 646d27b817c28b5ea4b5b0c1\. State: retrying\.$/m,
    );
    assert.match(text, /map_iam_roles_to_pod_sa answers\.$/m);
    assert.match(
      text,
      /this run -> arn:aws:iam::111111111111:role\/acme-read: proved\n +-> arn:\S+role\/acme-read: proved; session until 20/,
    );
    assert.match(
      text,
      /role\/acme-write: failed\n +-> arn:aws:iam::222222222222:role\/acme-write: not asked\n +the proxy role's trust/,
    );
    assert.match(text, /^The newest refusal \(20\S+\), not_proved: /m);
    assert.match(text, /^Clock: \d+ s (ahead of|behind) AWS's/m);
    assert.match(text, /env \| grep \^AWS_ \| curl -s --data-binary @- localhost:6003\/doctor/);
  });

  it('returns JSON on request, with its findings on the environment, and no keys', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const body = `AWS_PROFILE=nope\nAWS_ACCESS_KEY_ID=AKIAX\nAWS_SECRET_ACCESS_KEY=very-secret\nAWS_CONFIG_FILE=${world.pod.configFile}\n`;
    const { type, text } = await ask(sidecar.url, { method: 'POST', body, headers: { accept: 'application/json' } });
    assert.match(type, /^application\/json/);
    const view = JSON.parse(text);
    assert.deepEqual([view.user, view.state, view.credentials], ['alice', 'ready', 'process']);
    assert.deepEqual(
      view.environment.map(({ code }: { code: string }) => code),
      ['keys', 'unknown_profile'],
    );
    assert.doesNotMatch(text + JSON.stringify(world.pod.lines), /very-secret|AKIAX/);
    assert.equal(view.profiles[0].to_role, 'proved');
  });

  it('answers even when the service does not', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    world.pod.service.always = 'cut';
    const text = await (await fetch(`${sidecar.url}/doctor`)).text();
    assert.match(text, /The service does not say who you are.*\nService: \S+ DOES NOT ANSWER \(connection_cut\): /);
  });

  it('distinguishes refusals, unexpected answers, no answer, and a call that was not made', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const view = async () => {
      const answer = await fetch(`${sidecar.url}/doctor`, { headers: { accept: 'application/json' } });
      const { service_answers, service_problem } = (await answer.json()) as DoctorView;
      const text = await (await fetch(`${sidecar.url}/doctor`)).text();
      const line = text.split('\n').find((one) => one.startsWith('Service: '));
      return { seen: [service_answers, service_problem?.status, service_problem?.code], line: line ?? '' };
    };
    const { service, tokenProxy } = world.pod;
    const cases: [Reply, unknown[], RegExp][] = [
      [
        problem(403, 'forbidden'),
        [true, 403, 'forbidden'],
        /REFUSES \(HTTP 403, forbidden\): .*It says forbidden.*GET http/,
      ],
      [problem(503, 'domino_down'), [true, 503, 'domino_down'], /REFUSES \(HTTP 503, domino_down\): /],
      [{ status: 502, text: 'Bad gateway' }, [true, 502, 'service_failed'], /REFUSES \(HTTP 502, service_failed\): /],
      [{ text: '<html>' }, [true, 200, 'unexpected_answer'], /REFUSES \(HTTP 200, unexpected_answer\): /],
      ['cut', [false, null, 'connection_cut'], /DOES NOT ANSWER \(connection_cut\): /],
    ];
    for (const [reply, seen, form] of cases) {
      service.always = reply;
      const found = await view();
      assert.deepEqual(found.seen, seen);
      assert.match(found.line, form);
    }
    tokenProxy.always = 'cut';
    const { seen, line } = await view();
    assert.deepEqual(seen, [false, null, 'token_proxy_unreachable']);
    assert.match(line, /WAS NOT ASKED \(token_proxy_unreachable\): /);
  });

  it('accepts GET and POST only, and answers before an endless body ends', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const put = await fetch(`${sidecar.url}/doctor`, { method: 'PUT', body: 'x' });
    assert.deepEqual([put.status, put.headers.get('allow')], [405, 'GET, POST']);
    const { status, bytes } = await sendEndless(`${sidecar.url}/doctor`, 64 * 1024 * 1024);
    assert.equal(status, 200, 'the doctor answers before the body ends');
    // The doctor reads 64 KB; the system's buffers on both ends hold the rest.
    assert.ok(bytes < 32 * 1024 * 1024, `${bytes} bytes were accepted`);
  });

  it('reads the first 64 KB of a body only', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const body = (blanks: number) => `${' '.repeat(blanks)}\nAWS_PROFILE=nope\n`;
    const within = await ask(sidecar.url, { method: 'POST', body: body(65_536 - 18) });
    assert.match(within.text, /AWS_PROFILE is nope/);
    const after = await ask(sidecar.url, { method: 'POST', body: body(65_536) });
    assert.doesNotMatch(after.text, /AWS_PROFILE is nope/);
    assert.match(after.text, /AWS_CONFIG_FILE is not set/);
  });
});

/** @returns the answer's status, or undefined where `most` bytes were sent without an answer. */
async function sendEndless(url: string, most: number): Promise<{ status: number | undefined; bytes: number }> {
  const request = httpRequest(url, { method: 'POST' });
  const answered = Promise.withResolvers<number | undefined>();
  request.on('response', (response) => answered.resolve(response.resume().statusCode));
  request.on('error', () => answered.resolve(undefined));
  let bytes = 0;
  let open = true;
  void answered.promise.then(() => {
    open = false;
    request.destroy();
  });
  const chunk = Buffer.alloc(64 * 1024, 'x');
  while (open && bytes < most) {
    await new Promise<unknown>((resolve) => {
      void answered.promise.then(resolve);
      request.write(chunk, resolve);
    });
    bytes += chunk.length;
  }
  if (open) request.destroy();
  return { status: await answered.promise, bytes };
}

describe('the findings on an environment', () => {
  const around = { configFile: '/c', profiles: ['acme'], configText: '[profile acme]\n' };
  const codes = (text: string) =>
    environmentFindings(readEnvironment(`AWS_CONFIG_FILE=/c\n${text}`), around).map(({ code }) => code);

  it('have no problem where AWS_PROFILE names an existing profile', () =>
    assert.deepEqual(codes('AWS_PROFILE=acme'), ['profile']));
  it('report keys, which take precedence over a profile', () =>
    assert.deepEqual(codes('AWS_PROFILE=acme\nAWS_ACCESS_KEY_ID=x'), ['keys', 'profile']));
  it('report a token variable, with a profile, without one, and with a role', () => {
    assert.deepEqual(codes('AWS_PROFILE=acme\nAWS_WEB_IDENTITY_TOKEN_FILE=/t'), ['token_variable', 'profile']);
    assert.deepEqual(codes('AWS_WEB_IDENTITY_TOKEN_FILE=/t'), ['token_variable', 'no_profile']);
    assert.deepEqual(codes('AWS_WEB_IDENTITY_TOKEN_FILE=/t\nAWS_ROLE_ARN=r'), ['web_identity']);
  });
  it('report a missing profile, container credentials, and another config file', () => {
    assert.deepEqual(codes(''), ['no_profile']);
    assert.deepEqual(codes('AWS_CONTAINER_CREDENTIALS_FULL_URI=http://x'), ['container']);
    assert.deepEqual(codes('AWS_CONFIG_FILE=/other\nAWS_PROFILE=acme'), ['config_file', 'profile']);
  });
  it('report a [default] section, and a missing config file', () => {
    assert.deepEqual(fileFindings(around), []);
    assert.deepEqual(
      fileFindings({ ...around, configText: '[default]\n' }).map(({ code }) => code),
      ['default_section'],
    );
    assert.deepEqual(
      fileFindings({ ...around, configText: undefined }).map(({ code }) => code),
      ['no_config_file'],
    );
  });
});
