/** Proves what a request that repeats the recorded one costs: nothing, but one check of a refused role every 15 s. */
import assert from 'node:assert/strict';
import type { V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { parseRoleRequest } from '../../src/runs/role-request.ts';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('a request that repeats the recorded one', () => {
  let world: World;
  let replica: Replica;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, RESYNC_SECONDS: '3600', LEASE_SECONDS: '60' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    const missing = {
      target: `arn:aws:iam::${assetAccount}:role/missing`,
      proxies: [`arn:aws:iam::${clusterAccount}:role/missing`],
    };
    const pairs = Array.from({ length: 39 }, (_, index) => world.addRolePair(`role-${index}`));
    await world.map(replica, 'acme', ...pairs, missing);
  });
  after(() => world.stop());

  const ask = (run: string) => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
  const idOn = (account: string) => {
    const object = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    return parseRoleRequest(object?.metadata?.annotations?.[wantedAnnotation])?.id;
  };
  const reads = () => world.aws.calls.GetRole ?? 0;
  /** Waits until no reconcile is under way: no read for a while. */
  const quiet = async () => {
    let [known, since] = [-1, 0];
    await until(() => {
      if (known !== reads()) [known, since] = [reads(), performance.now()];
      return performance.now() - since > 1_000;
    }, 15_000);
  };
  const patches = () => world.kubernetes.calls.get('patch serviceaccounts') ?? 0;

  it('records nothing and calls no IAM while one of forty roles is missing, and rechecks that role once', async () => {
    const run = runId(31_000);
    const { account } = world.startRun(run, 'alice');
    const first = await ask(run);
    assert.equal(first.text.match(/^\[profile (?!src_)/gm)?.length, 39);
    assert.match(first.text, /^# missing: refused, role_not_found/m);
    await quiet();
    const [known, readBefore, patchedBefore] = [idOn(account), reads(), patches()];
    for (let times = 0; times < 10; times += 1) assert.match((await ask(run)).text, /^# missing: refused/m);
    assert.deepEqual([idOn(account), reads(), patches()], [known, readBefore, patchedBefore]);

    // After a while the refused role alone is checked again, once for all callers.
    world.clock.skip(16_000);
    const texts = await Promise.all([ask(run), ask(run), ask(run), ask(run)]);
    for (const { text } of texts) assert.match(text, /^# missing: refused, role_not_found/m);
    assert.deepEqual([idOn(account), reads() - readBefore, patches()], [known, 1, patchedBefore]);

    world.addRolePair('missing');
    world.clock.skip(16_000);
    await until(async () => (await ask(run)).text.includes('[profile missing]'));
    assert.equal(idOn(account), known);
    assert.ok(reads() - readBefore <= 8, `${reads() - readBefore} reads`);
  });

  it('by two runs of one service account in turn is recorded once, and counts for both runs', async () => {
    const [first, second] = [runId(31_001), runId(31_002)];
    const { account } = world.startRun(first, 'alice', { account: 'static-alice' });
    world.startRun(second, 'alice', { account });
    for (const run of [first, second]) assert.equal((await ask(run)).status, 200);
    await quiet();
    const [known, readBefore] = [idOn(account), reads()];
    for (let times = 0; times < 5; times += 1) {
      for (const run of [first, second]) assert.equal((await ask(run)).status, 200);
    }
    assert.deepEqual([idOn(account), reads()], [known, readBefore]);
    // The run that asked last ends: the other one keeps its roles, and still gets them in its answers.
    world.endRun(second);
    await until(async () => (await ask(first)).text.includes('[profile role-0]'));
    assert.equal(await world.canAssume(account, `arn:aws:iam::${clusterAccount}:role/role-0`), true);
  });
});
