/** Proves that lost or late answers of EKS cause no error, and that many changes on several replicas lose nothing. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  field,
  mappedUser,
  mappingName,
  newUser,
  type Stored,
  statusOf,
  storeMappings,
  trusted,
  untilAllThere,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import type { Replica } from '../support/world.ts';

describe('Pod Identity: lost answers', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let drawn = 0;

  before(async () => {
    // Exactly every fourth call, not a random quarter, which may exceed any limit on waiting.
    const random = () => (++drawn % 4 === 0 ? 0 : 1);
    world = await startPodIdentityWorld({}, { random });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const writesOf = (account: string) => world.aws.eksWrites.filter(({ serviceAccount }) => serviceAccount === account);
  const noFalseAlarm = () => {
    const lines = world.replicas.flatMap(({ log }) => log);
    assert.deepEqual(
      lines.filter(({ msg, level }) => /changed externally/.test(String(msg)) || level === 'error'),
      [],
    );
  };

  it('of a creation: the leader finds the association, and creates no second one', async () => {
    const one = newUser(world);
    world.aws.knobs.loseAnswerNext = { CreatePodIdentityAssociation: 1 };
    await world.mapUser(replica, one.user, one.arn);
    await untilAllThere(world, one);
    assert.deepEqual(
      writesOf(one.account).map(({ outcome }) => outcome),
      ['answer-lost'],
    );
    assert.equal(statusOf(world, one.account)?.creating, undefined);
    noFalseAlarm();
  });

  it('of a creation that hangs: the leader retries with the same token', async () => {
    const one = newUser(world);
    world.aws.knobs.hangNext = { CreatePodIdentityAssociation: 1 };
    await world.mapUser(replica, one.user, one.arn);
    await until(() => writesOf(one.account).length === 1);
    const token = statusOf(world, one.account)?.creating;
    assert.ok(token);
    await untilAllThere(world, one);
    assert.deepEqual(
      writesOf(one.account).map(({ body, outcome }) => [body.clientRequestToken, outcome]),
      [
        [token, 'hung'],
        [token, 'ok'],
      ],
    );
    noFalseAlarm();
  }).timeout(20_000);

  it('of a creation whose leader stops: the next leader retries with the same token', async () => {
    const one = newUser(world);
    world.aws.knobs.failNext = { CreatePodIdentityAssociation: { code: 'ServerException', times: 1 } };
    world.aws.knobs.latencyMs = { CreatePodIdentityAssociation: 100 };
    await world.mapUser(replica, one.user, one.arn);
    await until(() => writesOf(one.account).length === 1);
    await replica.stop();
    world.aws.knobs.latencyMs = { CreatePodIdentityAssociation: 0 };
    const token = statusOf(world, one.account)?.creating;
    assert.ok(token);
    replica = await world.startReplica();
    await untilAllThere(world, one);
    assert.deepEqual(new Set(writesOf(one.account).map(({ body }) => body.clientRequestToken)), new Set([token]));
    noFalseAlarm();
  });

  it('of an update and of a deletion: neither call is repeated', async () => {
    const [one, other] = [await mappedUser(world, replica), newUser(world)];
    world.aws.knobs.loseAnswerNext = { UpdatePodIdentityAssociation: 1, DeletePodIdentityAssociation: 1 };
    await world.mapUser(replica, one.user, other.arn);
    await untilAllThere(world, one, other.arn);
    await until(() => trusted(world, one.role).length === 0);
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, { ...one, role: other.role });
    assert.deepEqual(
      writesOf(one.account).map(({ action, outcome }) => `${action.slice(0, 6)} ${outcome}`),
      ['Create ok', 'Update answer-lost', 'Delete answer-lost'],
    );
    noFalseAlarm();
  });

  it('of a deletion while the mapping is restored: the leader reports no external change', async () => {
    const one = await mappedUser(world, replica);
    world.aws.knobs.loseAnswerNext = { DeletePodIdentityAssociation: 1 };
    // Half of this time passes between the deletion and its answer.
    world.aws.knobs.latencyMs = { DeletePodIdentityAssociation: 400 };
    const mapping = world.kubernetes.get<Stored>('configmaps', field, mappingName)?.data?.[one.user];
    storeMappings(world, { [one.user]: undefined });
    await until(() => associationOf(world, one.account) === undefined);
    storeMappings(world, { [one.user]: mapping });
    await untilAllThere(world, one);
    world.aws.knobs.latencyMs = {};
    assert.deepEqual(
      writesOf(one.account).map(({ action, outcome }) => `${action.slice(0, 6)} ${outcome}`),
      ['Create ok', 'Delete answer-lost', 'Create ok'],
    );
    assert.equal(statusOf(world, one.account)?.drift, undefined);
    noFalseAlarm();
  });

  it('of a trust policy write while the mapping is deleted: the status outlasts the trust', async () => {
    const one = newUser(world);
    world.aws.knobs.loseAnswerNext = { UpdateAssumeRolePolicy: 1 };
    await world.mapUser(replica, one.user, one.arn);
    await until(() => trusted(world, one.role).length === 1);
    let last: string[] | undefined;
    world.kubernetes.onChange('configmaps', (type, object) => {
      const isStatus = (object as Stored).data?.['status.json']?.includes(`"service_account":"${one.account}"`);
      if (isStatus && type === 'DELETED') last ??= trusted(world, one.role);
    });
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 100 };
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 0 };
    // A leader that deleted the status sooner, and then died, would leave the trust behind.
    assert.deepEqual(last, []);
    noFalseAlarm();
  });

  it('EKS that throttles every fourth call delays all users’ changes, but loses none', async () => {
    const users = Array.from({ length: 5 }, () => newUser(world));
    const actions = ['Create', 'Describe', 'List', 'Delete', 'Update'];
    const rates = actions.map((action) => [`${action}PodIdentityAssociation${action === 'List' ? 's' : ''}`, 0.3]);
    world.aws.knobs.throttleRate = Object.fromEntries(rates) as Record<string, number>;
    for (const { user, arn } of users) await world.mapUser(replica, user, arn);
    for (const one of users) await untilAllThere(world, one);
    for (const { user } of users) await world.unmapUser(replica, user);
    for (const one of users) await untilNothingLeft(world, one);
    world.aws.knobs.throttleRate = {};
    assert.ok(drawn > 20);
    noFalseAlarm();
  }).timeout(40_000);
});

describe('Pod Identity: many changes at once', () => {
  let world: PodIdentityWorld;
  let replicas: Replica[];

  before(async () => {
    world = await startPodIdentityWorld({ LEASE_SECONDS: '12' });
    replicas = [await world.startReplica(), await world.startReplica()];
  });
  after(() => world.stop());

  const holders = () =>
    replicas.filter(({ log }) => log.some(({ msg }) => /the lease: this replica writes/.test(String(msg))));

  it('all changes on two replicas take effect, and the leader alone writes, one call at a time', async () => {
    const users = Array.from({ length: 24 }, () => newUser(world));
    await Promise.all(users.map(({ user, arn }, index) => world.mapUser(replicas[index % 2] as Replica, user, arn)));
    for (const one of users) await untilAllThere(world, one);
    assert.equal(holders().length, 1);
    const [waiting] = replicas.filter((replica) => !holders().includes(replica));
    assert.ok(!waiting?.log.some(({ audit }) => audit === 'pod_identity'));
    assert.ok(world.aws.eksWrites.every(({ overlaps, outcome }) => overlaps === 0 && outcome === 'ok'));
    assert.equal(world.aws.eksWrites.length, users.length);
    assert.deepEqual(world.userMappings(), Object.fromEntries(users.map(({ user, account }) => [user, account])));
    await Promise.all(users.map(({ user }, index) => world.unmapUser(replicas[(index + 1) % 2] as Replica, user)));
    for (const one of users) await untilNothingLeft(world, one);
  }).timeout(40_000);

  it('of many mappings to one service account, one is stored and the others are refused', async () => {
    const users = Array.from({ length: 8 }, () => newUser(world));
    const account = 'the-one-account-sa';
    const answers = await Promise.all(
      users.map(({ user, arn }, index) =>
        (replicas[index % 2] as Replica).call('POST', '/update_pod_identity_mapping', {
          as: 'admin',
          body: { domino_user: user, iam_role_arn: arn, service_account: account },
        }),
      ),
    );
    const taken = answers.filter(({ status }) => status === 200);
    assert.equal(taken.length, 1);
    for (const { status, body } of answers.filter((answer) => answer !== taken[0])) {
      assert.deepEqual([status, (body as { code: string }).code], [409, 'service_account_conflict']);
    }
    const stored = world.kubernetes.get<Stored>('configmaps', field, mappingName)?.data ?? {};
    assert.equal(Object.values(stored).filter((text) => text.includes(account)).length, 1);
    const one = users.find(({ user }) => taken[0]?.text.includes(`"${user}"`));
    assert.ok(one);
    await untilAllThere(world, { ...one, account });
    assert.equal(associationOf(world, account)?.roleArn, one.arn);
  });

  it('when the leader stops midway, the other replica finishes', async () => {
    const users = Array.from({ length: 10 }, () => newUser(world));
    const [holder] = holders();
    const [other] = replicas.filter((replica) => replica !== holder);
    assert.ok(holder && other);
    await Promise.all(users.map(({ user, arn }) => world.mapUser(other, user, arn)));
    await holder.stop();
    for (const one of users) await untilAllThere(world, one);
    assert.ok(world.aws.eksWrites.every(({ overlaps }) => overlaps === 0));
    assert.equal(world.aws.associations().length, 11);
  });
});
