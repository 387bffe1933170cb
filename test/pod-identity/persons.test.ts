/** Proves that a Pod Identity mapping belongs to one person: a later user of the same name does not get the role. */
import assert from 'node:assert/strict';
import { completePodIdentity, parsePodIdentities, storedPodIdentity } from '../../src/pod-identity/mappings.ts';
import { podIdentityOf } from '../../src/reports/pod-identity.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { mappedUser, type Stored, untilAllThere, untilNothingLeft } from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

const configMap = 'domino-pod-identity-mapping';

describe('Pod Identity: the person that a mapping belongs to', () => {
  let world: PodIdentityWorld;
  let replicas: [Replica, Replica];

  before(async () => {
    world = await startPodIdentityWorld();
    replicas = [await world.startReplica(), await world.startReplica()];
  });
  after(() => world.stop());

  const stored = (user: string) => {
    const found = world.kubernetes.get<Stored>('configmaps', 'domino-field', configMap);
    return JSON.parse(found?.data?.[user] ?? 'null') as { domino_user_id?: string; contender_id?: string } | null;
  };
  const list = async () => (await replicas[1].call('GET', '/pod_identity_mappings', { as: 'admin' })).body;
  const mine = async (as: string) => (await replicas[1].call('GET', '/my_pod_identity', { as })).body.pod_identity;
  const other = 'e'.repeat(24);

  it('is recorded when the user’s first workload starts, for a mapping without an id', async () => {
    const { user } = await mappedUser(world, replicas[0]);
    assert.equal(stored(user)?.domino_user_id, undefined);
    const { id } = world.domino.user(user);
    world.startWorkload(user);
    await until(() => stored(user)?.domino_user_id === id);
    const [one] = (await list()).pod_identity_mappings.filter(
      ({ domino_user: name }: { domino_user: string }) => name === user,
    );
    assert.equal(one.domino_user_id, id);
  });

  it('is the one that an administrator sends, and stays when the user is mapped again', async () => {
    const { user, arn } = await mappedUser(world, replicas[0]);
    await world.mapUser(replicas[0], user, arn, { domino_user_id: world.domino.user(user).id });
    await world.mapUser(replicas[0], user, arn, { disable_session_tags: true });
    assert.equal(stored(user)?.domino_user_id, world.domino.user(user).id);
  });

  it('is not replaced by a later user of the name, who gets no role until an administrator accepts it', async () => {
    const one = await mappedUser(world, replicas[0]);
    const { user, arn } = one;
    const pod = world.startWorkload(user);
    await until(() => stored(user)?.domino_user_id !== undefined);
    world.endPod(pod.pod);
    const first = world.domino.user(user).id;
    world.domino.addUser({ name: user, id: other });
    assert.equal(await mine(user), null);
    const stranger = world.startWorkload(user);
    await until(() => stored(user)?.contender_id === other);
    assert.equal(stored(user)?.domino_user_id, first);
    // What the name had is removed: the entry of the Mutation, and the trust statement of the role.
    await until(() => world.userMappings()?.[user] === undefined);
    await until(() => world.podStatement(one.role) === undefined);
    assert.equal(world.startWorkload(user).account.startsWith('run-'), true);
    assert.notEqual(await world.identityOf(one.account, stranger.pod).catch(() => ''), arn);
    const [told] = (await list()).unusable.filter(({ domino_user: name }: { domino_user: string }) => name === user);
    assert.equal(told.code, 'user_id_mismatch');
    for (const replica of replicas) {
      await until(async () =>
        /irsa_unusable_mappings\{to="pod_identity"\} 1/.test(await replica.metrics.registry.metrics()),
      );
    }
    assert.ok(replicas[0].log.some(({ level, code }) => level === 'error' && code === 'user_id_mismatch'));
    await world.mapUser(replicas[0], user, arn, { domino_user_id: other });
    await untilAllThere(world, one);
    assert.equal(stored(user)?.contender_id, undefined);
    await world.unmapUser(replicas[0], user);
    for (const { metadata } of world.kubernetes.list<{ metadata: { name: string } }>('pods'))
      world.endPod(metadata.name);
    await untilNothingLeft(world, one);
    assert.ok(world.aws.role(clusterAccount, one.role));
  });

  it('is the only one who sees the report', () => {
    const sent = { domino_user: 'alice', domino_user_id: '1', iam_role_arn: 'arn:aws:iam::111111111111:role/a' };
    const identities = parsePodIdentities({ alice: storedPodIdentity(completePodIdentity(sent)) });
    const sources = { identities, status: () => undefined, statuses: () => [], pods: [], knowsMutation: true };
    assert.equal(podIdentityOf({ id: '1', name: 'alice' }, sources)?.domino_user, 'alice');
    assert.equal(podIdentityOf({ id: '2', name: 'alice' }, sources), undefined);
  });
});
