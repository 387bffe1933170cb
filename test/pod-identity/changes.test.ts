/** Proves that a Pod Identity follows its mapping in a safe order, and that no user keeps what is no longer mapped. */
import assert from 'node:assert/strict';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  field,
  mappedUser,
  newUser,
  type Stored,
  statusOf,
  trusted,
  untilAllThere,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import { assetAccount, clusterAccount, type Replica } from '../support/world.ts';

describe('Pod Identity: changes of the mapping', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const text = (role: string) => world.aws.role(clusterAccount, role).text;
  const noFalseAlarm = () =>
    assert.deepEqual(
      replica.log.filter(({ msg }) => /changed externally/.test(String(msg))),
      [],
    );

  it('another service account: the new one is put in place, and all parts of the old one are removed', async () => {
    const one = await mappedUser(world, replica);
    const next = { ...one, account: `${one.user}-next` };
    await world.mapUser(replica, one.user, one.arn, { service_account: next.account });
    await untilAllThere(world, next);
    await until(() => statusOf(world, one.account) === undefined && world.account(one.account) === undefined);
    assert.equal(associationOf(world, one.account), undefined);
    assert.deepEqual(trusted(world, one.role), [next.account]);
    noFalseAlarm();
  });

  it('another role: the old one trusts the service account until the association has the new one', async () => {
    const one = await mappedUser(world, replica);
    const other = newUser(world);
    const id = associationOf(world, one.account)?.associationId;
    world.aws.knobs.failNext = { UpdatePodIdentityAssociation: { code: 'ServerException', times: 3 } };
    await world.mapUser(replica, one.user, other.arn);
    await world.untilReport(replica, one.user, (found) => found?.code === 'unavailable');
    assert.deepEqual([trusted(world, one.role), trusted(world, other.role)], [[one.account], [one.account]]);
    assert.equal(world.userMappings()?.[one.user], one.account);
    await untilAllThere(world, one, other.arn);
    await until(() => trusted(world, one.role).length === 0);
    assert.equal(associationOf(world, one.account)?.associationId, id);
    assert.deepEqual(statusOf(world, one.account)?.trusted_by, [other.arn]);
    noFalseAlarm();
  });

  for (const [what, code, spoil, mend] of [
    [
      'is no longer a policy',
      'malformed_trust_policy',
      (role: string) => world.aws.setTrust(clusterAccount, role, '[]'),
      (role: string, document: object) => world.aws.setTrust(clusterAccount, role, document),
    ],
    [
      'may no longer be written',
      'access_denied',
      () => {
        world.aws.knobs.failRate = { UpdateAssumeRolePolicy: { code: 'AccessDenied', rate: 1 } };
      },
      () => undefined,
    ],
  ] as const) {
    it(`another role, while the trust policy of the old one ${what}: reported until it is fixed`, async () => {
      const [one, other] = [await mappedUser(world, replica), newUser(world)];
      const { document } = world.aws.role(clusterAccount, one.role);
      // Held in the state where both roles trust the account, until the old role is broken.
      world.aws.knobs.failRate = { UpdatePodIdentityAssociation: { code: 'ServerException', rate: 1 } };
      await world.mapUser(replica, one.user, other.arn);
      await world.untilReport(replica, one.user, (found) => found?.code === 'unavailable');
      world.aws.knobs.failRate = {};
      spoil(one.role);
      await world.untilReport(replica, one.user, (found) => found?.state === 'refused' && found.code === code);
      assert.equal(associationOf(world, one.account)?.roleArn, other.arn);
      assert.deepEqual(statusOf(world, one.account)?.trusted_by, [one.arn, other.arn].sort());
      world.aws.knobs.failRate = {};
      mend(one.role, document);
      // The leader retries a role that it could not write only after 15 s.
      world.clock.skip(16_000);
      await world.untilInPlace(replica, one.user);
      assert.deepEqual([trusted(world, one.role), trusted(world, other.role)], [[], [one.account]]);
    });
  }

  it('a missing role: the user keeps the old one, and mapping it again removes all traces of the missing', async () => {
    const one = await mappedUser(world, replica);
    const missing = `${one.arn}-missing`;
    await world.mapUser(replica, one.user, missing);
    await world.untilReport(replica, one.user, (found) => found?.code === 'role_not_found');
    assert.equal(associationOf(world, one.account)?.roleArn, one.arn);
    assert.deepEqual(trusted(world, one.role), [one.account]);
    const { pod } = world.startWorkload(one.user);
    assert.match(await world.identityOf(one.account, pod), new RegExp(`assumed-role/${one.role}/`));
    await world.mapUser(replica, one.user, one.arn);
    await untilAllThere(world, one);
    await until(() => !JSON.stringify(world.kubernetes.list('configmaps', 'domino-field')).includes(missing));
    noFalseAlarm();
  });

  it('a target role: it is added and changed in place, and removed by a new association', async () => {
    const one = await mappedUser(world, replica);
    const target = (name: string) => `arn:aws:iam::${assetAccount}:role/${name}`;
    const id = associationOf(world, one.account)?.associationId;
    for (const name of ['acme-a', 'acme-b']) {
      await world.mapUser(replica, one.user, one.arn, { target_role_arn: target(name) });
      await until(() => associationOf(world, one.account)?.targetRoleArn === target(name));
      await until(() => statusOf(world, one.account)?.association?.external_id !== undefined);
      assert.equal(associationOf(world, one.account)?.associationId, id);
    }
    await world.mapUser(replica, one.user, one.arn);
    await until(() => associationOf(world, one.account)?.targetRoleArn === undefined);
    await untilAllThere(world, one);
    assert.notEqual(associationOf(world, one.account)?.associationId, id);
    noFalseAlarm();
  });

  it('session tags off and on: the statement never requires tags that EKS does not send', async () => {
    const one = await mappedUser(world, replica);
    const { pod } = world.startWorkload(one.user);
    const works = async () => assert.match(await world.identityOf(one.account, pod), /assumed-role/);
    await world.mapUser(replica, one.user, one.arn, { disable_session_tags: true });
    await until(() => associationOf(world, one.account)?.disableSessionTags === true);
    assert.deepEqual(trusted(world, one.role), ['*']);
    await untilAllThere(world, one);
    await works();
    world.aws.knobs.failNext = { UpdatePodIdentityAssociation: { code: 'ServerException', times: 2 } };
    await world.mapUser(replica, one.user, one.arn);
    await world.untilReport(replica, one.user, (found) => found?.code === 'unavailable');
    assert.deepEqual(trusted(world, one.role), ['*']);
    await works();
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 100 };
    await until(() => statusOf(world, one.account)?.state === 'in_place');
    assert.deepEqual(trusted(world, one.role), [one.account]);
    assert.equal(associationOf(world, one.account)?.disableSessionTags, false);
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 0 };
    await works();
    noFalseAlarm();
  });

  it('an unmanaged role: its trust policy is not written when the mapping is set, changed or deleted', async () => {
    const both = ['sts:AssumeRole', 'sts:TagSession'];
    const theirs = { Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action: both };
    const one = newUser(world, theirs);
    const before = text(one.role);
    await world.mapUser(replica, one.user, one.arn, { update_iam_role_trust_policy: false });
    await world.untilInPlace(replica, one.user);
    assert.equal((await world.report(replica, one.user))?.parts?.trust_policy, 'kept_elsewhere');
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
    assert.equal(text(one.role), before);

    const two = await mappedUser(world, replica);
    const ours = text(two.role);
    await world.mapUser(replica, two.user, two.arn, { update_iam_role_trust_policy: false });
    await world.untilReport(replica, two.user, (found) => found?.parts?.trust_policy === 'kept_elsewhere');
    await world.untilInPlace(replica, two.user);
    await world.mapUser(replica, two.user, two.arn);
    await world.untilReport(replica, two.user, (found) => found?.parts?.trust_policy === true);
    await world.mapUser(replica, two.user, two.arn, { update_iam_role_trust_policy: false });
    await world.untilReport(replica, two.user, (found) => found?.parts?.trust_policy === 'kept_elsewhere');
    await world.unmapUser(replica, two.user);
    await until(() => statusOf(world, two.account) === undefined);
    assert.equal(text(two.role), ours);
    noFalseAlarm();
  });

  it('a role is unmanaged only while an organization’s mapping says so', async () => {
    const both = ['sts:AssumeRole', 'sts:TagSession'];
    const theirs = { Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action: both };
    const one = newUser(world, theirs);
    const before = text(one.role);
    const proxy = { iam_role_arn: `arn:aws:iam::${assetAccount}:role/acme-a`, proxy_iam_role_arn: one.arn };
    const body = { domino_org: 'acme', role_data: [{ ...proxy, update_iam_role_trust_policy: false }] };
    const set = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    assert.equal(set.status, 200, set.text);
    const stored = world.kubernetes.get<Stored>('configmaps', field, mappingConfigMap);
    assert.ok(stored);
    await world.mapUser(replica, one.user, one.arn);
    await world.untilInPlace(replica, one.user);
    const isElsewhere = async () => (await world.report(replica, one.user))?.parts?.trust_policy === 'kept_elsewhere';
    assert.ok(await isElsewhere());
    assert.equal(text(one.role), before);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    await until(() => trusted(world, one.role).join() === one.account);
    await world.untilReport(replica, one.user, (found) => found?.parts?.trust_policy === true);
    // The API refuses an organization's mapping that names a user's role, so it is stored directly.
    world.kubernetes.put('configmaps', stored);
    await until(isElsewhere);
    world.kubernetes.remove('configmaps', field, mappingConfigMap);
    await world.untilReport(replica, one.user, (found) => found?.parts?.trust_policy === true);
    assert.deepEqual(trusted(world, one.role), [one.account]);
    noFalseAlarm();
  });

  it('two users of one role share one list and its management, and an unmapped one is removed', async () => {
    const one = await mappedUser(world, replica);
    const two = newUser(world);
    await world.mapUser(replica, two.user, one.arn);
    await world.untilInPlace(replica, two.user);
    assert.deepEqual(trusted(world, one.role), [one.account, two.account].sort());
    const shared = text(one.role);
    await world.mapUser(replica, two.user, one.arn, { update_iam_role_trust_policy: false });
    for (const { user } of [one, two]) {
      await world.untilReport(replica, user, (found) => found?.parts?.trust_policy === 'kept_elsewhere');
    }
    assert.equal(text(one.role), shared);
    await world.mapUser(replica, two.user, one.arn);
    for (const { user } of [one, two]) {
      await world.untilReport(replica, user, (found) => found?.parts?.trust_policy === true);
    }
    await world.unmapUser(replica, two.user);
    await until(() => trusted(world, one.role).join() === one.account);
    await world.untilInPlace(replica, one.user);
    noFalseAlarm();
  });
});
