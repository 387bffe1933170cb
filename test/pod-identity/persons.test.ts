/** Proves that a Pod Identity mapping is one person's: another one who comes to have the user's name does not get the role. */
import assert from 'node:assert/strict';
import { completePodIdentity, parsePodIdentities, storedPodIdentity } from '../../src/pod-identity/mappings.ts';
import { podIdentityOf } from '../../src/reports/pod-identity.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { mappedUser, type Stored, untilAllThere, untilNothingLeft } from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

const configMap = 'domino-pod-identity-mapping';

describe('Pod Identity: the person', () => {
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

  it('is recorded when the first workload of the user begins, also where an older release stored the mapping', async () => {
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

  it('stays when an administrator maps the user again, and is what an administrator sends', async () => {
    const { user, arn } = await mappedUser(world, replicas[0]);
    await world.mapUser(replicas[0], user, arn, { domino_user_id: world.domino.user(user).id });
    await world.mapUser(replicas[0], user, arn, { disable_session_tags: true });
    assert.equal(stored(user)?.domino_user_id, world.domino.user(user).id);
  });

  it('who comes to have the name gets nothing, sees nothing, and is told; an administrator may accept them', async () => {
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
    // What the name had is taken away: the mapping of workloads, and what makes the account worth something.
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

  it('a report is for the person on record alone', () => {
    const sent = { domino_user: 'alice', domino_user_id: '1', iam_role_arn: 'arn:aws:iam::111111111111:role/a' };
    const identities = parsePodIdentities({ alice: storedPodIdentity(completePodIdentity(sent)) });
    const sources = { identities, status: () => undefined, statuses: () => [], pods: [], knowsMutation: true };
    assert.equal(podIdentityOf({ id: '1', name: 'alice' }, sources)?.domino_user, 'alice');
    assert.equal(podIdentityOf({ id: '2', name: 'alice' }, sources), undefined);
  });
});
