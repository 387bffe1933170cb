/** Proves that a service account which goes to another user gives no pod another user's role. */
import assert from 'node:assert/strict';
import type { podIdentityOf } from '../../src/reports/pod-identity.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  mappedUser,
  newUser,
  type PodUser,
  statusOf,
  storeMappings,
  trusted,
  untilAllThere,
} from '../support/pod-identity-users.ts';
import type { Replica } from '../support/world.ts';

describe('Pod Identity: a service account that goes to another user', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const noFalseAlarm = () =>
    assert.deepEqual(
      replica.log.filter(({ msg }) => /changed externally/.test(String(msg))),
      [],
    );

  for (const how of ['unmapped first', 'moved in one go'] as const) {
    it(`${how}: pods of the first user lose the role, and the second user waits for them to end`, async () => {
      const [one, two] = [await mappedUser(world, replica), newUser(world)];
      const { pod } = world.startWorkload(one.user);
      const own = `${one.user}-other`;
      if (how === 'unmapped first') {
        await world.unmapUser(replica, one.user);
        await world.mapUser(replica, two.user, two.arn, { service_account: one.account });
      } else {
        storeMappings(world, {
          [one.user]: { service_account: own, iam_role_arn: one.arn },
          [two.user]: { service_account: one.account, iam_role_arn: two.arn },
        });
        await until(() => world.userMappings()?.[one.user] === own);
        assert.equal(world.startWorkload(one.user).account, own);
      }
      await world.untilReport(replica, two.user, (found) => found?.code === 'name_taken');
      await until(() => !trusted(world, one.role).includes(one.account));
      assert.equal(associationOf(world, one.account), undefined);
      assert.match(await world.identityOf(one.account, pod), /AccessDenied/);
      assert.deepEqual(trusted(world, two.role), []);
      assert.equal(world.userMappings()?.[two.user], undefined);
      world.endPod(pod);
      await untilAllThere(world, { ...two, account: one.account });
      assert.equal(associationOf(world, one.account)?.tags['irsa.dominodatalab.com/domino-user'], two.user);
      noFalseAlarm();
    });
  }

  /** Moves the service account of the first user to the second, who had none. */
  const move = (one: PodUser, two: PodUser) =>
    storeMappings(world, {
      [one.user]: undefined,
      [two.user]: { service_account: one.account, iam_role_arn: two.arn },
    });
  async function getsNothing(one: PodUser, two: PodUser, pod: string): Promise<void> {
    assert.equal(associationOf(world, one.account), undefined);
    assert.deepEqual(trusted(world, two.role), []);
    assert.match(await world.identityOf(one.account, pod), /AccessDenied|ResourceNotFound/);
  }

  it('while the watch of pods is lost: a pod of the first user does not get the second user’s role', async () => {
    const [one, two] = [await mappedUser(world, replica), newUser(world)];
    const isLost = ({ msg, path }: Record<string, unknown>) =>
      /watch lost/.test(String(msg)) && /pods$/.test(String(path));
    world.kubernetes.knobs.refuseListsOf = 'pods';
    world.kubernetes.cutWatches();
    await until(() => replica.log.some(isLost));
    const { pod, account } = world.startWorkload(one.user);
    assert.equal(account, one.account);
    move(one, two);
    // While the pods of the account are unknown, it gets no role.
    await world.untilReport(replica, two.user, (found) => found?.code === 'kubernetes_unavailable');
    await getsNothing(one, two, pod);
    world.kubernetes.knobs.refuseListsOf = '';
    await world.untilReport(replica, two.user, (found) => found?.code === 'name_taken');
    await getsNothing(one, two, pod);
    world.endPod(pod);
    await untilAllThere(world, { ...two, account: one.account });
  });

  it('while the watch misses a pod of the first user: the API server shows it, and the second user waits', async () => {
    const [one, two] = [await mappedUser(world, replica), newUser(world)];
    world.aws.knobs.latencyMs = { DeletePodIdentityAssociation: 300 };
    const before = world.aws.calls.DeletePodIdentityAssociation ?? 0;
    move(one, two);
    await until(() => (world.aws.calls.DeletePodIdentityAssociation ?? 0) > before);
    world.kubernetes.knobs.freezeWatches = true;
    const { pod } = world.startRun('d'.repeat(24), one.user, { account: one.account });
    const status = () => statusOf(world, one.account);
    await until(() => status()?.domino_user === two.user && status()?.reason?.code === 'name_taken');
    await getsNothing(one, two, pod);
    world.kubernetes.knobs.freezeWatches = false;
    world.aws.knobs.latencyMs = {};
    world.endPod(pod);
    await untilAllThere(world, { ...two, account: one.account });
  });

  it('another service account for a user: pods with the old one lose the role and are listed for restart', async () => {
    const one = await mappedUser(world, replica);
    const next = { ...one, account: `${one.user}-next` };
    const { pod } = world.startWorkload(one.user);
    const told = async () => {
      const { body } = await replica.call('GET', '/my_pod_identity', { as: one.user });
      const { pod_identity: found } = body as { pod_identity: ReturnType<typeof podIdentityOf> };
      return found?.state === 'in_place' && found.service_account === next.account ? found.restart : undefined;
    };
    await world.mapUser(replica, one.user, one.arn, { service_account: next.account });
    await until(async () => ((await told())?.length ?? 0) > 0);
    await until(
      () => associationOf(world, one.account) === undefined && trusted(world, one.role).join() === next.account,
    );
    assert.match(await world.identityOf(one.account, pod), /AccessDenied|ResourceNotFound/);
    assert.deepEqual(
      (await told())?.map((found) => [found.pod, found.why]),
      [[pod, 'before_mapping']],
    );
    world.endPod(pod);
    await until(async () => (await told())?.length === 0);
    noFalseAlarm();
  });
});
