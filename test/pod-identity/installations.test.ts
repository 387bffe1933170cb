/** Proves that two installations with one compute namespace do not change each other's associations and Mutation. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { associationOf, mappedUser, newUser, trusted } from '../support/pod-identity-users.ts';
import type { Replica } from '../support/world.ts';

describe('Pod Identity: two installations in one cluster', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let other: Replica;

  beforeEach(async () => {
    world = await startPodIdentityWorld({ RESYNC_SECONDS: '1' });
    replica = await world.startReplica();
  });
  afterEach(() => world.stop());

  const startOther = async () => {
    other = await world.startReplica({ DEFAULT_FIELD_NS: 'other-field' });
  };
  const lists = () => world.aws.calls.ListPodIdentityAssociations ?? 0;

  it('one does not delete what the other made as a leftover', async () => {
    const one = await mappedUser(world, replica);
    const [association, mutation] = [associationOf(world, one.account), world.userMappings()];
    await startOther();
    await until(() => other.log.some(({ msg }) => /holding the lease/.test(String(msg))));
    const before = lists();
    await until(() => lists() >= before + 6);
    assert.deepEqual(associationOf(world, one.account), association);
    assert.deepEqual(world.userMappings(), mutation);
    assert.deepEqual(trusted(world, one.role), [one.account]);
    assert.deepEqual(
      world.replicas.flatMap(({ log }) => log.filter(({ msg }) => /changed externally/.test(String(msg)))),
      [],
    );
  });

  it('users of the second installation wait, with the reason, until the first has no users', async () => {
    const one = await mappedUser(world, replica);
    await startOther();
    const two = newUser(world);
    await world.mapUser(other, two.user, two.arn);
    await world.untilReport(other, two.user, (found) => found?.code === 'mutation_conflict');
    const report = await world.report(other, two.user);
    assert.match(report?.reason ?? '', /namespace domino-field/);
    assert.deepEqual(world.userMappings(), { [one.user]: one.account });
    // An account of the first installation: a conflict is reported, and it is never taken over.
    await world.mapUser(other, one.user, one.arn);
    await world.untilReport(other, one.user, (found) => found?.code === 'association_conflict');
    await world.untilInPlace(replica, one.user);
    const before = world.account(one.account);
    await world.unmapUser(other, one.user);
    await world.untilReport(other, one.user, (found) => found === undefined);
    assert.deepEqual(world.account(one.account), before);
    await world.unmapUser(replica, one.user);
    await until(() => world.userMappings()?.[two.user] === two.account, 60_000);
    await until(() => world.userMappings()?.[one.user] === undefined);
    assert.equal(associationOf(world, two.account)?.roleArn, two.arn);
  }).timeout(60_000);
});
