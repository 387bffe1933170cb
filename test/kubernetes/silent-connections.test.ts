/** Owns the test of a system whose connections to the API server all go silent at once. */
import assert from 'node:assert/strict';
import type { Transport } from '../stack/kubernetes-transport.ts';
import { until } from '../support/clock.ts';
import { type Replica, runId, startWorld, type World } from '../support/world.ts';

for (const transport of ['h2', 'http1'] satisfies Transport[]) {
  describe(`when every connection to the API server goes silent, over ${transport}`, () => {
    let world: World;
    let replicas: Replica[];

    before(async function () {
      this.timeout(60_000);
      world = await startWorld({ LEASE_SECONDS: '15' }, { transport });
      world.domino.addUser({ name: 'alice', orgs: ['acme'] });
      replicas = await Promise.all([world.startReplica(), world.startReplica()]);
      await world.map(replicas[0] as Replica, 'acme', world.addRolePair('acme-list'));
      world.startRun(runId(1), 'alice');
      assert.equal((await ask(0, 1)).status, 200);
    });
    after(() => world.stop());

    const ask = (replica: number, run: number) =>
      (replicas[replica] as Replica).call('POST', '/map_iam_roles_to_pod_sa', {
        as: 'alice',
        body: { run_id: runId(run) },
      });
    const lease = () =>
      world.kubernetes.get<{ spec: { leaseTransitions: number } }>('leases', 'domino-field', 'irsa-writer')?.spec
        .leaseTransitions;

    it('new runs get their roles within 10 s, from the same lease holder', async function () {
      this.timeout(40_000);
      const before = lease();
      world.kubernetes.knobs.silent = 'open';
      const startedAt = performance.now();
      for (const run of [2, 3]) world.startRun(runId(run), 'alice');
      const first = async (replica: number, run: number) => {
        await until(async () => (await ask(replica, run)).status === 200, 20_000);
        return performance.now() - startedAt;
      };
      const took = await Promise.all([first(0, 2), first(1, 3)]);
      assert.ok(Math.max(...took) < 10_000, `${took}`);
      assert.equal(lease(), before);
    });

    it('/readyz answers 503 while new connections are silent too, and 200 afterwards', async function () {
      this.timeout(40_000);
      const ready = async () => (await (replicas[0] as Replica).call('GET', '/readyz')).status;
      assert.equal(await ready(), 200);
      world.kubernetes.knobs.silent = 'all';
      const lost = () =>
        (replicas[0] as Replica).log.some(({ msg }) => msg === 'the lease could not be had or renewed');
      await until(lost, 15_000);
      world.clock.skip(10_000);
      await until(async () => (await ready()) === 503, 15_000);
      world.kubernetes.knobs.silent = 'none';
      await until(async () => (await ready()) === 200, 15_000);
    });
  });
}
