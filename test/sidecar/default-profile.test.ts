/** Proves the default profile: off by default, chosen by the user or a mapping, served to SDKs that have the token. */
import assert from 'node:assert/strict';
import { type PathLike, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { systemDisk } from '../../src/sidecar/config-file.ts';
import { hasBoto3, runBoto3 } from '../stack/clients.ts';
import { until } from '../support/clock.ts';
import { type AwsPod, startAwsPod } from './aws-pod.ts';
import { call, configText, problem } from './support.ts';

describe('the default profile', () => {
  let world: AwsPod;

  beforeEach(async () => {
    world = await startAwsPod(['acme-read', 'acme-write']);
  });
  afterEach(() => world.stop());

  const on = { IRSA_DEFAULT_CREDENTIALS: 'true' };
  const tokenPath = () => join(world.folder, 'default-token');
  const ask = async (url: string, authorization = readFileSync(tokenPath(), 'utf8')) => {
    const answer = await fetch(`${url}/default/credentials`, { headers: { authorization } });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };

  const doctor = async (url: string) => (await fetch(`${url}/doctor`)).text();

  it('has no calls unless it is switched on', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    assert.equal((await call(sidecar, '/default?profile=acme-read')).status, 404);
    assert.equal((await call(sidecar, '/default/credentials')).status, 404);
    assert.equal((await call(sidecar, '/default?profile=acme-read', 'POST')).status, 404);
  });

  it('has calls with GET only, and a 404 lists them', async () => {
    const sidecar = await world.start(on);
    await sidecar.ready;
    for (const path of ['/default?profile=acme-read', '/default/credentials']) {
      const { status, headers } = await call(sidecar, path, 'POST');
      assert.deepEqual([status, headers.get('allow')], [405, 'GET']);
    }
    assert.match(String((await call(sidecar, '/nothing')).body.error), /\/default,/);
  });

  it('is none until the user chooses an existing profile, and changes with the next choice', async () => {
    const sidecar = await world.start(on);
    await sidecar.ready;
    assert.equal((await ask(sidecar.url)).body.code, 'NoDefaultProfile');
    assert.equal((await call(sidecar, '/default?profile=nope')).status, 404);
    for (const name of ['acme-read', 'acme-write']) {
      assert.equal((await call(sidecar, `/default?profile=${name}`)).body.default_profile, name);
      const { AccessKeyId, SessionToken: Token } = world.session(name) ?? {};
      const { status, body } = await ask(sidecar.url);
      assert.deepEqual([status, body.AccessKeyId, body.Token], [200, AccessKeyId, Token]);
    }
    assert.equal((await call(sidecar, '/default?profile=')).body.default_profile, null);
    assert.equal((await ask(sidecar.url)).status, 404);
  });

  const proposing = (...names: string[]) => {
    const text = configText(['acme-read', 'acme-write']);
    const [first, ...rest] = text.split('\n');
    return { text: [first, ...names.map((name) => `# default profile: ${name}`), ...rest].join('\n') };
  };

  it('is the one that a mapping proposes, until the user chooses', async () => {
    world.pod.service.always = proposing('acme-write');
    const sidecar = await world.start(on);
    await sidecar.ready;
    const proposed = ['acme-write'];
    const { default_profile } = sidecar.status();
    assert.deepEqual(default_profile, { profile: 'acme-write', chosen_by: 'mapping', proposed });
    assert.match(world.pod.config() ?? '', /^# default profile: acme-write$/m);
    assert.equal((await ask(sidecar.url)).body.AccessKeyId, world.session('acme-write')?.AccessKeyId);
    assert.match(await doctor(sidecar.url), /^Default profile: acme-write, your organization proposes it\.$/m);
    const chosen = await call(sidecar, '/default?profile=acme-read');
    assert.deepEqual([chosen.body.default_profile, chosen.body.chosen_by], ['acme-read', 'person']);
    assert.equal((await ask(sidecar.url)).body.AccessKeyId, world.session('acme-read')?.AccessKeyId);
    assert.match(await doctor(sidecar.url), /^Default profile: acme-read, you chose it\.$/m);
    await call(sidecar, '/default?profile=');
    assert.equal((await ask(sidecar.url)).body.code, 'NoDefaultProfile');
  });

  it('is none while organizations propose different ones, with the reason, until the user chooses', async () => {
    world.pod.service.always = proposing('acme-read', 'acme-write');
    const sidecar = await world.start(on);
    await sidecar.ready;
    const { default_profile: view } = sidecar.status();
    assert.deepEqual([view?.profile, view?.chosen_by], [null, null]);
    assert.match(view?.problem ?? '', /propose different default profiles, so none is taken: acme-read, acme-write\./);
    const { status, body } = await ask(sidecar.url);
    assert.deepEqual([status, body.code], [404, 'NoDefaultProfile']);
    assert.match(
      await doctor(sidecar.url),
      /^Default profile: none\. Your organizations propose different .*Choose one: curl/m,
    );
    await call(sidecar, '/default?profile=acme-write');
    assert.equal((await ask(sidecar.url)).body.AccessKeyId, world.session('acme-write')?.AccessKeyId);
  });

  it('ignores the proposal of a mapping where it is not switched on', async () => {
    world.pod.service.always = proposing('acme-write');
    const sidecar = await world.start();
    await sidecar.ready;
    assert.equal(sidecar.status().default_profile, null);
    assert.equal((await call(sidecar, '/default/credentials')).status, 404);
    assert.doesNotMatch(await doctor(sidecar.url), /Default profile/);
  });

  it('reports why it has no session: role refused, role no longer mapped, session expired', async () => {
    const sidecar = await world.start(on);
    await sidecar.ready;
    await call(sidecar, '/default?profile=acme-read');
    assert.equal(sidecar.status().default_profile?.problem, undefined);
    const refused = '# acme-read: refused, trust_policy_full: no room for it.';
    for (const [text, form] of [
      [configText(['acme-write'], undefined, refused), /refuses its role, trust_policy_full: no room for it/],
      [configText(['acme-write']), /not mapped to its role any more/],
    ] as const) {
      world.pod.service.always = { text };
      await sidecar.refresh();
      const view = sidecar.status().default_profile;
      assert.deepEqual([view?.profile, view?.chosen_by], ['acme-read', 'person']);
      assert.match(view?.problem ?? '', form);
      assert.match(view?.what_to_do ?? '', /choose another: curl/);
      assert.match(String((await call(sidecar, '/default')).body.problem), form);
      assert.match(String((await ask(sidecar.url)).body.message), form);
      assert.match(await doctor(sidecar.url), /^Default profile: acme-read, you chose it\. IT HAS NO SESSION: /m);
    }
    await call(sidecar, '/default?profile=acme-write');
    assert.equal(sidecar.status().default_profile?.problem, undefined);
    world.aws.knobs.down = true;
    world.clock.skip(61 * 60_000);
    assert.match(sidecar.status().default_profile?.problem ?? '', /session ran out at 20/);
    assert.equal((await ask(sidecar.url)).body.code, 'NoSession');
  });

  it('fails with sessions_not_writable while its folder cannot be written', async () => {
    let full = true;
    const disk = {
      ...systemDisk,
      renameSync: (from: PathLike, to: PathLike) => {
        if (full && /default-/.test(String(to))) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
        systemDisk.renameSync(from, to);
      },
    };
    const sidecar = await world.start(on, { disk });
    await until(() => sidecar.status().last_error !== null);
    assert.equal(sidecar.status().last_error?.code, 'sessions_not_writable');
    full = false;
    assert.equal((await sidecar.refresh()).result, 'ok');
    full = true;
    const { status, body } = await call(sidecar, '/default?profile=acme-read');
    assert.equal(status, 503);
    assert.match(String(body.error), /could not be written .*ENOSPC/);
    assert.equal((await ask(sidecar.url)).body.code, 'NoDefaultProfile');
  });

  it('requires the token, and ends when the run is revoked', async () => {
    const sidecar = await world.start(on);
    await sidecar.ready;
    await call(sidecar, '/default?profile=acme-read');
    assert.equal(statSync(tokenPath()).mode & 0o777, 0o640);
    for (const wrong of ['', 'x', readFileSync(tokenPath(), 'utf8').slice(1)]) {
      assert.deepEqual(await ask(sidecar.url, wrong).then(({ status }) => status), 401);
    }
    world.pod.service.always = problem(403, 'run_revoked');
    await sidecar.refresh();
    const { status, body } = await ask(sidecar.url);
    assert.equal(status, 404);
    assert.match(String(body.message), /An administrator has shut this run out/);
  });

  it('gives boto3 credentials without a profile', async function () {
    this.timeout(60_000);
    if (!(await hasBoto3())) return this.skip();
    const sidecar = await world.start(on);
    await sidecar.ready;
    await call(sidecar, '/default?profile=acme-write');
    const { stdout, stderr } = await runBoto3("import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])", {
      AWS_REGION: 'us-west-2',
      AWS_DEFAULT_REGION: 'us-west-2',
      AWS_ENDPOINT_URL_STS: world.aws.url,
      AWS_CONTAINER_CREDENTIALS_FULL_URI: `${sidecar.url}/default/credentials`,
      AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: tokenPath(),
    });
    assert.match(stdout, /assumed-role\/acme-write\/alice-/, stderr);
  });
});
