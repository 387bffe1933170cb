/** Proves role tokens on a real API server: it makes the token, the sidecar keeps it, boto3 uses it for the role. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { createLog } from '../../../src/lib/log.ts';
import { loadSidecarConfig } from '../../../src/sidecar/config.ts';
import { type Sidecar, startSidecar } from '../../../src/sidecar/sidecar.ts';
import { type Scripted, startScripted } from '../../sidecar/support.ts';
import { hasBoto3, runBoto3 } from '../../stack/clients.ts';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { assumes } from '../../support/roles.ts';
import { assetAccount, runId } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { type RealWorld, startRealWorld } from './world.ts';

describe('role tokens on kube-apiserver', function () {
  this.timeout(30 * 60_000);
  const run = runId(1);
  let world: RealWorld;
  let replica: Replica;
  let tokenProxy: Scripted;
  let sidecar: Sidecar;
  let folder: string;
  let pod: string;
  let account: string;
  let proxy = '';

  before(async function () {
    folder = mkdtempSync(join(tmpdir(), 'irsa-role-tokens-'));
    const settings = { ROLE_TOKEN_DIR: join(folder, 'tokens'), ROLE_TOKEN_SECONDS: '600' };
    const values = { admissionPolicy: { enabled: true }, roleTokens: { enabled: true } };
    world = await orSkip(this, () => startRealWorld(settings, { values }));
    // The keys are the API server's own; the audience is what an administrator adds to the provider.
    const clientIds = ['sts.amazonaws.com', 'irsa/by-token'];
    world.aws.trustIssuer(world.cluster.issuer, await world.cluster.jwks(), { clientIds });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    ({ pod, account } = await world.startRun(run, 'alice'));
    replica = await world.startReplica();
    const pair = world.addRolePair('by-token');
    [proxy = ''] = pair.proxies;
    const body = { domino_org: 'acme', iam_role_arn: pair.target, proxy_iam_role_arn: proxy, carrier: 'token' };
    const mapped = await replica.call('POST', '/update_role_mapping', { as: 'admin', body });
    assert.equal(mapped.status, 200, mapped.text);
    tokenProxy = await startScripted({ text: world.domino.token('alice') });
    writeFileSync(join(folder, 'labels'), `dominodatalab.com/execution-id="${run}"\n`);
  });
  after(async () => {
    await sidecar?.stop();
    await tokenProxy?.close();
    await world?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const config = () => join(folder, 'config');
  const token = () => readFileSync(join(folder, 'tokens', 'by-token'), 'utf8');
  const writes = () => world.aws.calls.UpdateAssumeRolePolicy ?? 0;

  it('the sidecar writes and proves the token that the API server made, bound to the pod', async () => {
    await until(() => writes() > 0, 15_000);
    const before = writes();
    sidecar = await startSidecar({
      config: loadSidecarConfig({
        ...world.aws.environment(),
        AWS_CONFIG_FILE: config(),
        ROLE_TOKEN_DIR: join(folder, 'tokens'),
        POD_NAME: pod,
        DOMINO_API_PROXY: tokenProxy.url,
        DOMINO_IRSA_ENDPOINT: `${replica.url}/map_iam_roles_to_pod_sa`,
        POD_INFO_PATH: join(folder, 'labels'),
        IRSA_SIDECAR_PORT: '0',
      }),
      clock: world.clock,
      log: createLog('error', { write: () => undefined }),
    });
    await sidecar.ready;
    const { state, profiles } = sidecar.status();
    assert.deepEqual([state, profiles.map(({ name, proved }) => [name, proved])], ['ready', [['by-token', true]]]);
    const { aud, sub, iat = 0, exp = 0, 'kubernetes.io': bound } = decodeJwt<{ 'kubernetes.io': object }>(token());
    assert.deepEqual([aud, sub], [['irsa/by-token'], `system:serviceaccount:domino-compute:${account}`]);
    assert.equal(exp - iat, 600);
    assert.equal((bound as { pod?: { name?: string } }).pod?.name, pod);
    assert.equal(writes(), before, 'IAM saw a write for the run');
  });

  it('boto3 assumes the target role with the role token', async function () {
    if (!(await hasBoto3())) return this.skip();
    const script = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
    const environment = { ...world.aws.environment(), AWS_CONFIG_FILE: config(), AWS_PROFILE: 'by-token' };
    const { stdout, stderr } = await runBoto3(script, environment);
    assert.match(stdout, new RegExp(`^arn:aws:sts::${assetAccount}:assumed-role/by-token/alice-`), stderr);
  });

  it('STS refuses the pod’s token with the usual audience, and the role token of a revoked run', async () => {
    const usual = await world.podToken(account, pod);
    assert.deepEqual([await assumes(usual, proxy), await assumes(token(), proxy)], [false, true]);
    const body = { run_id: run, reason: 'a test' };
    const revoked = await replica.call('POST', '/revoke_run', { as: 'admin', body });
    assert.equal(revoked.status, 200, revoked.text);
    await until(async () => !(await assumes(token(), proxy)), 15_000);
    const asked = await replica.call('POST', '/role_tokens', { as: 'alice', body: { run_id: run, pod } });
    assert.deepEqual([asked.status, (asked.body as { code?: string }).code], [403, 'run_revoked']);
  });
});
