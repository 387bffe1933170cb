/** Proves that the sidecar keeps role tokens with the real service: it fetches, writes, proves and renews them. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { createLog } from '../../src/lib/log.ts';
import { loadSidecarConfig } from '../../src/sidecar/config.ts';
import { requireConfigForm } from '../../src/sidecar/config-form.ts';
import { type Sidecar, startSidecar } from '../../src/sidecar/sidecar.ts';
import { hasBoto3, runBoto3 } from '../stack/clients.ts';
import { ShiftedClock, until } from '../support/clock.ts';
import { assetAccount, type Replica, startWorld, type World } from '../support/world.ts';
import { runId, type Scripted, startScripted } from './support.ts';

describe('the sidecar and role tokens', function () {
  this.timeout(60_000);
  let world: World;
  let replica: Replica;
  let tokenProxy: Scripted;
  let folder: string;
  let pod: string;
  let clock = new ShiftedClock();
  const lines: string[] = [];
  const running: Sidecar[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-tokens-'));
    world = await startWorld({ ROLE_TOKEN_DIR: join(folder, 'tokens'), ROLE_TOKEN_SECONDS: '600' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    pod = world.startRun(runId, 'alice').pod;
    replica = await world.startReplica();
    const pair = world.addRolePair('by-token');
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['irsa/by-token'] });
    const role_data = [{ iam_role_arn: pair.target, proxy_iam_role_arn: pair.proxies[0], carrier: 'token' }];
    await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body: { domino_org: 'acme', role_data } });
    tokenProxy = await startScripted({ text: world.domino.token('alice') });
    writeFileSync(join(folder, 'labels'), `dominodatalab.com/execution-id="${runId}"\n`);
  });
  after(async () => {
    await Promise.all(running.map((one) => one.stop()));
    await tokenProxy.close();
    await world.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  async function start(more: Record<string, string> = {}): Promise<Sidecar> {
    const config = loadSidecarConfig({
      ...world.aws.environment(),
      AWS_CONFIG_FILE: join(folder, 'config'),
      ROLE_TOKEN_DIR: join(folder, 'tokens'),
      POD_NAME: pod,
      DOMINO_API_PROXY: tokenProxy.url,
      DOMINO_IRSA_ENDPOINT: `${replica.url}/map_iam_roles_to_pod_sa`,
      POD_INFO_PATH: join(folder, 'labels'),
      IRSA_SIDECAR_PORT: '0',
      ...more,
    });
    const sidecar = await startSidecar({
      config,
      clock,
      log: createLog('debug', { write: (line: string) => void lines.push(line) }),
    });
    running.push(sidecar);
    await sidecar.ready;
    return sidecar;
  }
  const file = () => join(folder, 'tokens', 'by-token');
  const idIn = () => decodeJwt(readFileSync(file(), 'utf8')).jti;

  it('writes a token for the pod’s group, proves the role with it, and shows when it expires', async () => {
    const sidecar = await start();
    const { state, profiles } = sidecar.status();
    assert.deepEqual([state, profiles.map(({ name, proved }) => [name, proved])], ['ready', [['by-token', true]]]);
    const left = Date.parse(profiles[0]?.token_expires ?? '') - clock.now();
    assert.ok(left > 500_000 && left <= 600_000, String(left));
    assert.equal(statSync(file()).mode & 0o777, 0o640);
    assert.deepEqual(decodeJwt(readFileSync(file(), 'utf8')).aud, ['irsa/by-token']);
    assert.match(readFileSync(join(folder, 'config'), 'utf8'), /tokens\/by-token\nrole_arn = \S+by-token/);
  });

  it('boto3 reaches the role with it', async function () {
    if (!(await hasBoto3())) return this.skip();
    const script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    const environment = {
      ...world.aws.environment(),
      AWS_CONFIG_FILE: join(folder, 'config'),
      AWS_PROFILE: 'by-token',
    };
    const { stdout, stderr } = await runBoto3(script, environment);
    assert.match(stdout, new RegExp(`^arn:aws:sts::${assetAccount}:assumed-role/by-token/alice-`), stderr);
  });

  it('renews the token at half its life and on a refresh, and keeps it while the API server makes none', async () => {
    const [sidecar] = running;
    assert.ok(sidecar);
    const first = idIn();
    clock.skip(240_000);
    await sidecar.refresh();
    const asked = idIn();
    assert.notEqual(asked, first);
    clock.skip(340_000);
    await until(() => idIn() !== asked, 10_000);
    const renewed = idIn();
    world.kubernetes.knobs.refuseTokens = '503 away';
    await sidecar.refresh();
    assert.equal(idIn(), renewed);
    assert.deepEqual(
      sidecar.status().profiles.map(({ proved }) => proved),
      [true],
    );
    world.kubernetes.knobs.refuseTokens = '';
  });

  it('keeps the token in memory where the sidecar holds the sessions', async () => {
    await running.pop()?.stop();
    rmSync(file());
    const sidecar = await start({ IRSA_CREDENTIALS: 'process', IRSA_CREDENTIALS_DIR: join(folder, 'sessions') });
    const [profile] = sidecar.status().profiles;
    assert.ok(profile?.session_expires && profile.token_expires);
    assert.throws(() => statSync(file()), /ENOENT/);
  });

  it('keeps the token, and the role as proved, while the service is down', async () => {
    await running.pop()?.stop();
    // The token's life is by the real clock, of which the former one is ahead.
    clock = new ShiftedClock();
    const sidecar = await start();
    const before = idIn();
    await replica.stop();
    assert.equal((await sidecar.refresh()).result, 'failed');
    // Past half of the token's life, when it is to be renewed.
    const failures = () => lines.filter((line) => line.includes('were not renewed; trying again')).length;
    const earlier = failures();
    clock.skip(340_000);
    await until(() => failures() > earlier);
    assert.equal(idIn(), before);
    const { state, profiles } = sidecar.status();
    assert.deepEqual([state, profiles.map(({ proved }) => proved)], ['stale', [true]]);
  });

  it('logs no token, and refuses token paths outside its folder', () => {
    assert.ok(!lines.join().includes('eyJ'));
    const config = (path: string) =>
      `[profile a]\nweb_identity_token_file = ${path}\nrole_arn = arn:aws:iam::111111111111:role/a\n`;
    const check = (path: string, dir?: string) => () => requireConfigForm(config(path), '/pod/token', dir);
    check('/t/team/a', '/t')();
    for (const path of ['/t/../a', '/t/./a', '/t/', '/t//a', '/tt/a', '/t/a b']) {
      assert.throws(check(path, '/t'), /not of its form/, path);
    }
    assert.throws(check('/t/a'), /not of its form/);
  });
});
