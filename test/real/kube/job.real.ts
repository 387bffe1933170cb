/** Proves the main job on a real API server: mappings, grants, real tokens, revocation, drift and Pod Identity. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasBoto3, runBoto3 } from '../../stack/clients.ts';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { assumes, clusterAccount } from '../../support/roles.ts';
import { runId } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { field, type RealWorld, startRealWorld } from './world.ts';

describe('the service on kube-apiserver', function () {
  this.timeout(30 * 60_000);
  let world: RealWorld;
  let one: Replica;
  let two: Replica;

  before(async function () {
    const values = { admissionPolicy: { enabled: true } };
    world = await orSkip(this, () => startRealWorld({ LEASE_SECONDS: '60' }, { values }));
    [one, two] = await Promise.all([world.startReplica(), world.startReplica()]);
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
  });
  after(() => world?.stop());

  const ask = (replica: Replica, run: string) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
  const admin = async (replica: Replica, path: string, body: object) => {
    const answer = await replica.call('POST', path, { as: 'admin', body });
    assert.equal(answer.status, 200, answer.text);
  };

  it('gives a run its roles: STS accepts the API server’s token, also from boto3', async function () {
    const pair = world.addRolePair('acme');
    const [proxy = ''] = pair.proxies;
    await world.map(one, 'acme', pair);
    const run = runId(1);
    const { account, pod } = await world.startRun(run, 'alice');
    const token = await world.podToken(account, pod);
    assert.equal(await assumes(token, proxy), false);
    const answer = await ask(two, run);
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(world.members(proxy), [account]);
    assert.equal(await assumes(token, proxy), true);
    assert.equal(await assumes(await world.podToken(account, pod, 'vault'), proxy).catch(() => false), false);
    if (!(await hasBoto3())) return this.skip();
    const folder = mkdtempSync(join(tmpdir(), 'irsa-run-'));
    const files = { token: join(folder, 'token'), config: join(folder, 'config') };
    writeFileSync(files.token, token);
    writeFileSync(
      files.config,
      answer.text.replaceAll('/var/run/secrets/eks.amazonaws.com/serviceaccount/token', files.token),
    );
    const script = "import boto3; print(boto3.Session(profile_name='acme').client('sts').get_caller_identity()['Arn'])";
    const environment = { ...world.aws.environment(), AWS_CONFIG_FILE: files.config };
    const { stdout, stderr } = await runBoto3(script, environment);
    rmSync(folder, { recursive: true });
    assert.match(stdout, /assumed-role\/acme\//, stderr);
  });

  it('stores all of twelve simultaneous mappings at two replicas', async () => {
    const orgs = Array.from({ length: 12 }, (_, index) => `team-${index}`);
    await Promise.all(
      orgs.map((org, index) => world.map(index % 2 === 0 ? one : two, org, world.addRolePair(`role-of-${org}`))),
    );
    const { data = {} } = await world.cluster.must('GET', `${field}/configmaps/domino-org-iamrole-mapping`);
    assert.deepEqual(Object.keys(data as object).sort(), ['acme', ...orgs].sort());
  });

  it('removes a revoked run, and adds it again when it is allowed', async () => {
    const run = runId(2);
    const { account } = await world.startRun(run, 'alice');
    assert.equal((await ask(one, run)).status, 200);
    await admin(two, '/revoke_run', { run_id: run, reason: 'a test' });
    await until(() => !world.members(proxyOf('acme')).includes(account));
    assert.equal((await ask(one, run)).status, 403);
    await admin(one, '/allow_run', { run_id: run });
    assert.equal((await ask(two, run)).status, 200);
    assert.ok(world.members(proxyOf('acme')).includes(account));
  });

  it('repairs an external change, and reports it in an Event about a ConfigMap', async () => {
    const before = world.members(proxyOf('acme'));
    assert.ok(before.length > 0);
    // Longer than IAM may return an earlier document.
    world.clock.skip(16_000);
    world.aws.setTrust(clusterAccount, 'acme', world.aws.role(clusterAccount, 'acme').history[0]?.text ?? '');
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxyOf('acme'))}`;
    await one.call('GET', path, { as: 'admin' });
    await until(() => JSON.stringify(world.members(proxyOf('acme'))) === JSON.stringify(before), 15_000);
    const events = async () => (await world.cluster.must('GET', `${field}/events`)).items ?? [];
    await until(async () => (await events()).length > 0, 15_000);
    const [event] = (await events()) as unknown as { involvedObject: { kind: string; uid?: string } }[];
    assert.equal(event?.involvedObject.kind, 'ConfigMap');
    assert.ok(event?.involvedObject.uid);
  });

  it('removes a run when it ends', async () => {
    const run = runId(3);
    const { account } = await world.startRun(run, 'alice');
    assert.equal((await ask(two, run)).status, 200);
    await world.endRun(run);
    await until(() => !world.members(proxyOf('acme')).includes(account), 15_000);
  });

  it('grants roles after one of two replicas has stopped', async () => {
    const run = runId(4);
    const { account } = await world.startRun(run, 'alice');
    await one.stop();
    assert.equal((await ask(two, run)).status, 200);
    assert.ok(world.members(proxyOf('acme')).includes(account));
  });

  const proxyOf = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;
});
