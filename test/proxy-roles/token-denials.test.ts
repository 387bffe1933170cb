/** Proves that a run whose role tokens are denied stays denied until the last one has expired. STS decides. */
import assert from 'node:assert/strict';
import type { V1ConfigMap, V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { until } from '../support/clock.ts';
import { mapRoles, removeStatuses, startTokenWorld, workingToken } from '../support/role-tokens.ts';
import { assumes } from '../support/roles.ts';
import { clusterAccount, emptyLists, type Replica, runId, type World } from '../support/world.ts';

describe('a revoked run that holds a role token', () => {
  let world: World;
  let replica: Replica;
  let proxy: string;
  let target: string;
  let next = 0;

  beforeEach(async () => {
    ({ world, replica, proxy, target } = await startTokenWorld(['alice']));
    await map({ iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' });
  });
  afterEach(() => world.stop());

  const map = (...data: object[]) => mapRoles(replica, 'acme', ...data);
  const mapByEntries = () => map({ iam_role_arn: target, proxy_iam_role_arn: proxy });
  function start(options: { account?: string } = {}) {
    next += 1;
    const run = runId(next);
    return { run, ...world.startRun(run, 'alice', options) };
  }
  const tokenFor = (one: { run: string; pod: string }) => workingToken({ replica, proxy }, one);
  async function revoked(options: { account?: string } = {}) {
    const run = start(options);
    const token = await tokenFor(run);
    const answer = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } });
    assert.equal(answer.body.left, true, answer.text);
    assert.equal(await assumes(token, proxy), false);
    return { ...run, token };
  }
  /** How a Deny names the service account of a run. */
  const denialOf = (account: string) => `"*${account.slice('run-'.length)}"`;
  const document = () => JSON.stringify(world.aws.role(clusterAccount, 'list').document);
  /** Waits until the leader has compared the role with IAM. */
  async function compared() {
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxy)}`;
    assert.equal((await replica.call('GET', path, { as: 'admin' })).status, 200);
  }
  const written = () => world.aws.role(clusterAccount, 'list').history.map((one) => JSON.stringify(one.document));

  it('stays denied after its end, until the token has expired', async () => {
    const { run, account, token } = await revoked();
    assert.ok(document().includes(denialOf(account)));
    world.endRun(run);
    // The token of another run shows that the leader has reconciled since.
    await tokenFor(start());
    await compared();
    assert.equal(await assumes(token, proxy), false, 'a copied token works again');
    // The token's life, and the margin for clocks and silent watches.
    world.clock.skip(900_000);
    await until(() => !document().includes(denialOf(account)), 20_000);
  }).timeout(40_000);

  it('stays denied when it was revoked without a mapping, and a later leader finds one', async () => {
    const run = start();
    const token = await tokenFor(run);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    await until(async () => !(await assumes(token, proxy)));
    assert.equal((await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } })).status, 200);
    world.endRun(run.run);
    await replica.stop();
    replica = await world.startReplica();
    await map({ iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' });
    await tokenFor(start());
    assert.equal(await assumes(token, proxy), false, 'a copied token works again');
  });

  it('is denied even if it and the leader end before the Deny is written', async () => {
    const run = start();
    const token = await tokenFor(run);
    world.aws.knobs.failRate = { GetRole: { code: 'ServiceFailure', rate: 1 } };
    const revoking = replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } });
    await until(async () => (await replica.call('GET', '/revoked_runs', { as: 'admin' })).body.total === 1);
    world.clock.skip(6_000);
    assert.equal((await revoking).body.left, false);
    world.endRun(run.run);
    await replica.stop();
    // Without a status, as if the leader had not yet published the service account that it was about to deny.
    removeStatuses(world);
    world.aws.knobs.failRate = {};
    replica = await world.startReplica();
    await tokenFor(start());
    await compared();
    assert.equal(await assumes(token, proxy), false, 'a copied token works');
  });

  it("stays denied when the leader's clock is set forward or back", async () => {
    const [early, living] = [await revoked(), await revoked()];
    world.endRun(early.run);
    world.clock.jump(-3_600_000);
    const later = await revoked();
    for (const [step, ms] of [3_600_000, 7_200_000, -7_200_000].entries()) {
      world.clock.jump(ms);
      // As an administrator does by `kubectl`: the service accepts no bearer token while its clock is ahead.
      const other = world.addRolePair(`other-${step}`);
      const entry = { iam_role_arn: other.target, proxy_iam_role_arn: other.proxies[0], carrier: 'token' };
      const stored = world.kubernetes.get<V1ConfigMap>('configmaps', 'domino-field', mappingConfigMap);
      const data = { ...stored?.data, [`other-${step}`]: JSON.stringify([entry]) };
      world.kubernetes.put('configmaps', { ...stored, data });
      const isWritten = () =>
        JSON.stringify(world.aws.role(clusterAccount, `other-${step}`).document).includes('IrsaRoleTokens');
      await until(isWritten);
      for (const { token } of [early, living, later]) assert.equal(await assumes(token, proxy), false, `step ${step}`);
    }
  });

  it('is not reported as removed while a write that admits its tokens is under way', async () => {
    const run = start();
    const token = await tokenFor(run);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    await until(async () => !(await assumes(token, proxy)));
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 1_000 };
    await map({ iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' });
    await until(() => world.aws.writes.some(({ endedAt }) => endedAt === undefined));
    const answer = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } });
    assert.equal(answer.status, 200, answer.text);
    const isDenied = async () => {
      assert.ok(!(answer.body.left && (await assumes(token, proxy))), 'reported as removed, and its token works');
      return document().includes('IrsaRevokedRoleTokens');
    };
    await until(isDenied);
    assert.equal(await assumes(token, proxy), false);
  });

  it('lets a later run on its service account assume the role by an entry', async () => {
    const account = 'static-alice';
    const { run } = await revoked({ account });
    world.endRun(run);
    // As the leader clears the request of a service account that outlives its pods.
    const stored = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const annotations = { ...stored?.metadata?.annotations, [wantedAnnotation]: '{"cleared":true}' };
    world.kubernetes.put('serviceaccounts', { ...stored, metadata: { ...stored?.metadata, annotations } });
    // A run that holds a token keeps the statement, and with it the Deny.
    const other = await tokenFor(start());
    await mapByEntries();
    const later = start({ account });
    const ask = () => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: later.run } });
    await until(async () => (await ask()).text.includes('[profile list]'));
    await until(() => world.canAssume(account, proxy));
    assert.ok(await assumes(other, proxy));
  });

  it('invariant 3: stays denied while lists are empty by mistake', async () => {
    const { account, token } = await revoked();
    const denials = written().length;
    await emptyLists(world, ['pods', 'serviceaccounts']);
    await compared();
    world.kubernetes.knobs.emptyLists = false;
    await compared();
    assert.equal(await assumes(token, proxy), false);
    for (const one of written().slice(denials)) assert.ok(one.includes(denialOf(account)), one);
  });

  it('invariant 3: stays the only denied run when the carrier changed and lists are empty by mistake', async () => {
    const { account, token } = await revoked();
    const other = await tokenFor(start());
    await mapByEntries();
    await compared();
    const denials = written().length;
    await emptyLists(world, ['pods']);
    await compared();
    world.kubernetes.knobs.emptyLists = false;
    await compared();
    assert.deepEqual([await assumes(token, proxy), await assumes(other, proxy)], [false, true]);
    for (const one of written().slice(denials)) assert.ok(one.includes(denialOf(account)), one);
  });
});
