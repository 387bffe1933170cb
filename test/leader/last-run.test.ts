/** Proves that the last run of the compute namespace is removed in IAM, even if its service account stays. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { runId, startWorld, type World } from '../support/world.ts';

describe('the last run of the compute namespace', () => {
  let world: World;

  beforeEach(async () => {
    world = await startWorld({ RESYNC_SECONDS: '1' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
  });
  afterEach(() => world.stop());

  it('is removed when its pod is gone, even though its service account stays', async () => {
    const replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('acme'));
    const run = runId(1);
    const { account } = world.startRun(run, 'alice', { account: 'static-alice' });
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal(answer.status, 200);
    assert.ok(world.subjects('acme').includes(`*:domino-compute:${account}`));
    world.endRun(run);
    assert.ok(world.kubernetes.get('serviceaccounts', 'domino-compute', account));
    await until(() => !world.subjects('acme').includes(`*:domino-compute:${account}`));
  });
});
