/** Proves the sessions that the sidecar holds: their files, renewal and end, and the message that a tool then gets. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/clock.ts';
import { type AwsPod, startAwsPod } from './aws-pod.ts';
import { call, configText, problem, roundsEnded, runId } from './support.ts';

const minute = 60_000;

describe('the sessions of the sidecar', () => {
  let world: AwsPod;

  beforeEach(async () => {
    world = await startAwsPod(['acme-read', 'acme-write']);
  });
  afterEach(() => world.stop());

  const ends = (name: string) => Date.parse(String(world.session(name)?.Expiration));
  const stsCalls = () => [world.aws.calls.AssumeRoleWithWebIdentity ?? 0, world.aws.calls.AssumeRole ?? 0];
  const tells = (name: string, form: RegExp) => {
    const { status, stdout, stderr } = world.runProfile(name);
    assert.deepEqual([status, stdout], [1, ''], stderr);
    assert.match(stderr, form);
    assert.equal(stderr.trim().split('\n').length, 1, 'the message is one line');
  };

  it('are printed by the profiles’ credential_process', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const expected = ['acme-read', 'acme-write'].flatMap((name) => [
      `[profile ${name}]`,
      `# arn:aws:iam::222222222222:role/${name}`,
      `credential_process = sh ${world.folder}/session ${name}`,
      'region = us-west-2',
    ]);
    const [first = '', ...rest] = (world.pod.config() ?? '').trimEnd().split('\n');
    assert.match(first, /^# irsa-svc: roles of alice for run /);
    assert.deepEqual(rest, expected);
    const { status, stdout } = world.runProfile('acme-read');
    const { Version, Expiration, ...keys } = JSON.parse(stdout);
    assert.deepEqual([status, Version, Object.keys(keys)], [0, 1, ['AccessKeyId', 'SecretAccessKey', 'SessionToken']]);
    assert.ok(Math.abs(Date.parse(Expiration) - Date.now() - 60 * minute) < minute);
    assert.deepEqual(stsCalls(), [2, 2]);
    const { profiles } = sidecar.status();
    assert.deepEqual(
      profiles.map(({ name, proved, session_expires }) => [name, proved, Date.parse(session_expires ?? '')]),
      [
        ['acme-read', true, ends('acme-read')],
        ['acme-write', true, ends('acme-write')],
      ],
    );
  });

  it('are readable for the pod’s group only, and appear in no answer, log or config file', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const modes = readdirSync(world.folder).map((name) => [name, statSync(join(world.folder, name)).mode & 0o777]);
    assert.deepEqual(Object.fromEntries(modes), {
      'acme-read.json': 0o640,
      'acme-write.json': 0o640,
      'chain.config': 0o644,
      session: 0o644,
    });
    await call(sidecar, '/refresh');
    const said = await Promise.all(['/status', '/refresh', '/readyz'].map((path) => call(sidecar, path)));
    const texts = [
      ...said.map(({ text }) => text),
      await (await fetch(`${sidecar.url}/doctor`)).text(),
      JSON.stringify(world.pod.lines),
      world.pod.config() ?? '',
    ].join('\n');
    for (const name of ['acme-read', 'acme-write']) {
      const { SecretAccessKey, SessionToken } = world.session(name) ?? {};
      for (const secret of [SecretAccessKey, SessionToken]) {
        assert.ok(typeof secret === 'string' && secret.length > 20 && !texts.includes(secret));
      }
    }
  });

  it('are renewed at half their life: at most two renewals, so four calls to STS, an hour and profile', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const hours = 6;
    for (let passed = 0; passed < hours * 60; passed += 5) {
      world.clock.skip(5 * minute);
      // A renewal is due after 30 to 36 minutes, and the clock moves by five.
      await until(() => ['acme-read', 'acme-write'].every((name) => ends(name) - world.clock.now() > 18 * minute));
      await roundsEnded(sidecar);
    }
    const [sources = 0, targets = 0] = stsCalls();
    const roles = 2;
    assert.ok(sources >= hours * roles && sources <= (2 * hours + 1) * roles, `${sources} calls for the proxy roles`);
    assert.ok(targets >= hours * roles && targets <= (2 * hours + 1) * roles, `${targets} calls for the roles`);
    assert.equal(sidecar.status().state, 'ready');
  }).timeout(60_000);

  it('share the session of a proxy role that leads to several target roles', async () => {
    const shared = configText(['acme-read', 'acme-write']).replace(
      '111111111111:role/acme-write',
      '111111111111:role/acme-read',
    );
    world.pod.service.always = { text: shared };
    world.aws.setTrust('222222222222', 'acme-write', {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: { AWS: 'arn:aws:iam::111111111111:role/acme-read' }, Action: 'sts:AssumeRole' },
      ],
    });
    const sidecar = await world.start();
    await sidecar.ready;
    assert.deepEqual(stsCalls(), [1, 2]);
  });

  it('are renewed at a refresh, and in no other round while they are valid', async () => {
    const sidecar = await world.start({ IRSA_REFRESH_SECONDS: '600' });
    await sidecar.ready;
    world.clock.skip(11 * minute);
    await until(() => sidecar.status().last_round?.cause === 'timer');
    assert.deepEqual(stsCalls(), [2, 2]);
    assert.equal((await sidecar.refresh()).result, 'ok');
    assert.deepEqual(stsCalls(), [4, 4]);
  });

  it('end at the next check after the run was revoked, with the reason, until the run is allowed again', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const lost = { access: [{ code: 'run_revoked', iam_role_arn: 'arn:aws:iam::222222222222:role/acme-read' }] };
    world.pod.service.next.push({ text: JSON.stringify(lost) });
    world.pod.service.always = problem(403, 'run_revoked');
    world.clock.skip(67_000);
    await until(() => sidecar.status().state === 'revoked');
    assert.equal(world.pod.service.asked.at(1)?.path, `/my_access?run_id=${runId}`);
    assert.deepEqual([world.session('acme-read'), world.session('acme-write')], [undefined, undefined]);
    tells(
      'acme-read',
      /^irsa-svc: AWS profile acme-read: An administrator has shut this run out .*Ask your administrator/,
    );
    const before = stsCalls();
    world.clock.skip(40 * minute);
    await until(() => world.pod.service.asked.length > 4);
    assert.equal(world.session('acme-read'), undefined);
    assert.deepEqual(stsCalls(), before);
    world.pod.service.always = { text: configText(['acme-read', 'acme-write']) };
    await until(async () => (await sidecar.refresh()).result === 'ok');
    assert.equal(world.runProfile('acme-read').status, 0);
  });

  it('all end when the run is revoked, also where a reason cannot be written', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    mkdirSync(join(world.folder, 'acme-read.why'));
    // A temporary file of a sidecar that was killed while it wrote.
    world.pod.put('sessions/.acme-write.json.irsa-new', '{}');
    world.pod.service.always = problem(403, 'run_revoked');
    await sidecar.refresh();
    assert.deepEqual(readdirSync(world.folder).sort(), ['acme-read.why', 'acme-write.why', 'chain.config', 'session']);
    assert.match(world.pod.config() ?? '', /^# irsa-svc: this run is shut out/);
  });

  it('end for a role that is no longer mapped, and for no other', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    world.pod.service.always = { text: configText(['acme-write']) };
    const { removed, kept } = await sidecar.refresh();
    assert.deepEqual([removed, kept], [['acme-read'], ['acme-write']]);
    tells('acme-read', /profile acme-read: you are not mapped to its role any more\. Ask your administrator/);
    assert.equal(world.runProfile('acme-write').status, 0);
  });

  it('of a role that the service refuses end with the reason, or give it where the role never had one', async () => {
    const refused = ['acme-read', 'acme-third'].map((name) => `# ${name}: refused, trust_policy_full: no room for it.`);
    const sidecar = await world.start();
    await sidecar.ready;
    world.pod.service.always = { text: configText(['acme-write'], undefined, refused.join('\n')) };
    await sidecar.refresh();
    for (const name of ['acme-read', 'acme-third']) {
      tells(
        name,
        new RegExp(`profile ${name}: the IRSA service refuses its role, trust_policy_full: no room for it\\. `),
      );
    }
    world.pod.service.always = { text: configText(['acme-write']) };
    await sidecar.refresh();
    tells('acme-read', /not mapped to its role any more/);
  });

  it('end when a profile leads to another role that is not yet proved', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const moved = configText(['acme-read', 'acme-write']).replace(
      '222222222222:role/acme-read',
      '222222222222:role/gone',
    );
    world.pod.service.always = { text: moved };
    void sidecar.refresh();
    await until(() => world.session('acme-read') === undefined);
    tells('acme-read', /leads to another role now/);
  });

  it('that AWS refuses give the reason, and the others work', async () => {
    world.setAccess('acme-read', false);
    const sidecar = await world.start();
    await until(() => world.session('acme-write') !== undefined);
    tells('acme-read', /profile acme-read: its session is not there yet.* curl localhost:0\/doctor$/m);
    world.clock.skip(2 * minute);
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'not_proved');
    tells('acme-read', /acme-read: the proxy role's trust policy does not let this run in .* ask your administrator/);
    assert.equal(world.runProfile('acme-write').status, 0);
    world.setAccess('acme-read', true);
    assert.equal((await sidecar.refresh()).result, 'ok');
    assert.equal(world.runProfile('acme-read').status, 0);
  });

  it('stay valid while STS is unreachable, give the reason once expired, and return with STS', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    const first = ends('acme-read');
    world.aws.knobs.down = true;
    const pass = async (over: () => boolean) => {
      for (let step = 0; step < 200; step += 1) {
        if (
          await until(over, 50).then(
            () => true,
            () => false,
          )
        )
          return;
        world.clock.skip(minute);
      }
      assert.fail('the condition does not hold after 200 minutes');
    };
    await pass(() => world.clock.now() > first - 3 * minute);
    assert.equal(ends('acme-read'), first);
    assert.equal(world.runProfile('acme-read').status, 0);
    await pass(() => world.session('acme-read') === undefined);
    tells('acme-read', /STS cannot be reached/);
    world.aws.knobs.down = false;
    await pass(() => world.session('acme-read') !== undefined);
    assert.equal(world.runProfile('acme-read').status, 0);
    assert.equal(sidecar.status().profiles.length, 2);
  }).timeout(60_000);

  it('outlive a restart of the sidecar while STS is unreachable, and are renewed with STS', async () => {
    const first = await world.start();
    await first.ready;
    await first.stop();
    const end = ends('acme-read');
    world.aws.knobs.down = true;
    const second = await world.start();
    await until(() => second.status().profiles.length === 2);
    world.clock.skip(2 * minute);
    await until(() => second.status().last_error?.code === 'not_proved', 10_000);
    assert.equal(ends('acme-read'), end, 'the failed proof keeps a valid session');
    assert.equal(world.runProfile('acme-read').status, 0);
    world.aws.knobs.down = false;
    world.clock.skip(3 * minute);
    await until(() => ends('acme-read') > end, 10_000);
  }).timeout(30_000);

  it('are renewed after a restart without the service, except expired ones', async () => {
    const first = await world.start();
    await first.ready;
    await first.stop();
    const end = ends('acme-read');
    const old = readFileSync(join(world.folder, 'acme-write.json'), 'utf8');
    world.pod.put(
      'sessions/acme-write.json',
      old.replace(/"Expiration":"[^"]*"/, '"Expiration":"2026-01-01T00:00:00Z"'),
    );
    world.pod.service.always = 'cut';
    const second = await world.start();
    await roundsEnded(second);
    world.clock.skip(minute);
    await until(() => ends('acme-read') > end);
    assert.equal(ends('acme-write'), Date.parse('2026-01-01T00:00:00Z'));
  });

  it('are not reported as proved once they have expired', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    world.aws.knobs.down = true;
    world.clock.skip(61 * minute);
    // Rounds and renewals that were due meanwhile have not begun yet.
    const { profiles } = sidecar.status();
    assert.deepEqual(
      profiles.map(({ proved, problem_code, session_expires }) => [proved, problem_code, session_expires]),
      [0, 1].map(() => [false, 'session_expired', undefined]),
    );
    assert.doesNotMatch(await (await fetch(`${sidecar.url}/doctor`)).text(), /role\/acme-(read|write): proved/);
  });

  it('are reported as expired by the script itself after the sidecar has stopped', async () => {
    const sidecar = await world.start();
    await sidecar.ready;
    await sidecar.stop();
    const path = join(world.folder, 'acme-read.json');
    const old = readFileSync(path, 'utf8').replace(/"Expiration":"[^"]*"/, '"Expiration":"2026-01-01T00:00:00Z"');
    world.pod.put('sessions/acme-read.json', old);
    tells('acme-read', /ran out at 2026-01-01T00:00:00Z, and the sidecar did not renew it/);
  });

  it('fail with sessions_not_writable where their folder cannot be written', async () => {
    world.pod.put('sessions', 'a file');
    const sidecar = await world.start();
    await roundsEnded(sidecar);
    assert.equal(sidecar.status().last_error?.code, 'sessions_not_writable');
    assert.match(sidecar.status().last_error?.what_to_do ?? '', /IRSA_CREDENTIALS_DIR/);
  });
});
