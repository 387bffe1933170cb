/** Proves that Pod Identities which cannot be put in place are reported, affect no others, and recover when fixed. */
import assert from 'node:assert/strict';
import { statusName } from '../../src/proxy-roles/status.ts';
import type { podIdentityOf } from '../../src/reports/pod-identity.ts';
import { until } from '../support/clock.ts';
import { mutationName, type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  compute,
  field,
  mappedUser,
  newUser,
  type Stored,
  statusOf,
  storeMappings,
  trusted,
  untilAllThere,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

describe('Pod Identity: refusals', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const refused = (user: string, code: string, timeoutMs?: number) =>
    world.untilReport(replica, user, (found) => found?.code === code && found.state === 'refused', timeoutMs);
  const ec2 = { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' };

  it('a missing role: refused, and in place once it exists', async () => {
    const one = newUser(world);
    world.aws.removeRole(clusterAccount, one.role);
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'role_not_found');
    assert.equal(associationOf(world, one.account), undefined);
    assert.equal(world.userMappings()?.[one.user], undefined);
    world.addPodRole(one.role);
    await replica.stop();
    // The leader waits up to 30 s before it checks again: the next leader checks at once.
    replica = await world.startReplica();
    await untilAllThere(world, one);
  });

  it('a role that was deleted in AWS: reported, and the other parts stay until the mapping is deleted', async () => {
    const one = await mappedUser(world, replica);
    world.aws.removeRole(clusterAccount, one.role);
    // A new leader reads every role.
    await replica.stop();
    replica = await world.startReplica();
    await refused(one.user, 'role_not_found');
    assert.equal(associationOf(world, one.account)?.roleArn, one.arn);
    assert.equal(world.userMappings()?.[one.user], one.account);
    assert.ok(world.account(one.account));
    await world.unmapUser(replica, one.user);
    await until(() => statusOf(world, one.account) === undefined && world.account(one.account) === undefined);
    assert.equal(associationOf(world, one.account), undefined);
    // The activity record still names the role, and the leader knows it no more.
    await until(() => world.kubernetes.get('configmaps', field, statusName(one.arn)) === undefined);
  });

  it('a refused role: repeated checks do not list the pods each time', async () => {
    const one = newUser(world);
    world.aws.setTrust(clusterAccount, one.role, '[]');
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'malformed_trust_policy');
    const lists = () => world.kubernetes.calls.get('list pods') ?? 0;
    const looks = () => world.aws.calls.ListPodIdentityAssociations ?? 0;
    const before = lists();
    for (const space of ['', ' ', '  ']) {
      const seen = looks();
      storeMappings(world, {
        [one.user]: `${space}{"service_account":"${one.account}","iam_role_arn":"${one.arn}"}`,
      });
      await until(() => looks() > seen);
    }
    // An empty list is read again now and then.
    assert.ok(lists() - before <= 1);
    await world.unmapUser(replica, one.user);
  });

  for (const resource of ['mutations', 'serviceaccounts']) {
    it(`${resource} that admission refuses: reported with its message, and in place once allowed`, async () => {
      const one = newUser(world);
      const said = `${resource} "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no`;
      Object.assign(world.kubernetes.knobs, { refuseWritesOf: resource, refusal: `422 ${said}` });
      await world.mapUser(replica, one.user, one.arn);
      await refused(one.user, 'kubernetes_refused');
      const { reason } = statusOf(world, one.account) ?? {};
      assert.equal(reason?.said, said);
      // The detail names the object.
      const object = resource === 'mutations' ? mutationName : `${resource}/${one.account}`;
      assert.ok(reason?.detail.includes(object), reason?.detail);
      world.kubernetes.knobs.refuseWritesOf = '';
      await replica.stop();
      replica = await world.startReplica();
      await untilAllThere(world, one);
    });
  }

  it('iam:PassRole denied: retried after growing pauses, and in place once allowed', async () => {
    const one = newUser(world);
    world.aws.knobs.passRoleDenied = [one.arn];
    const before = world.aws.calls.CreatePodIdentityAssociation ?? 0;
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'pass_role_denied');
    await until(() => (world.aws.calls.CreatePodIdentityAssociation ?? 0) >= before + 3);
    const second = world.aws.eksWrites.filter(({ serviceAccount }) => serviceAccount === one.account);
    const gaps = second.slice(1).map(({ startedAt }, index) => startedAt - (second[index]?.startedAt ?? 0));
    assert.ok(
      gaps.every((gap, index) => gap >= 120 * 2 ** index),
      `a hot loop: ${gaps}`,
    );
    world.aws.knobs.passRoleDenied = [];
    await untilAllThere(world, one);
  });

  it('the quota of associations: refused, and in place once the quota allows it', async () => {
    const one = newUser(world);
    world.aws.knobs.associationQuota = world.aws.associations().length;
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'association_quota');
    world.aws.knobs.associationQuota = 5000;
    await untilAllThere(world, one);
  });

  it('a trust policy that is malformed or not writable: refused, and users do not see AWS’s message', async () => {
    const one = newUser(world);
    world.aws.setTrust(clusterAccount, one.role, '[]');
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'malformed_trust_policy');
    assert.equal(world.aws.role(clusterAccount, one.role).text, '[]');
    const two = newUser(world);
    world.aws.knobs.failNext = { UpdateAssumeRolePolicy: { code: 'AccessDenied', times: 1 } };
    await world.mapUser(replica, two.user, two.arn);
    await refused(two.user, 'access_denied');
    await world.untilReport(replica, two.user, (found) => found?.said !== undefined);
    const own = await replica.call('GET', '/my_pod_identity', { as: two.user });
    assert.equal((own.body as { pod_identity: ReturnType<typeof podIdentityOf> }).pod_identity?.said, undefined);
    assert.equal(associationOf(world, two.account), undefined);
  });

  it('a trust policy without capacity for the statement: refused, and never changed', async () => {
    const notes = Array.from({ length: 30 }, (_, index) => ({ ...ec2, Sid: `Statement${index}ThatIsSomebodyElses` }));
    const one = newUser(world, ...notes);
    const before = world.aws.role(clusterAccount, one.role).text;
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'trust_policy_full');
    assert.equal(world.aws.role(clusterAccount, one.role).text, before);
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
    assert.equal(world.aws.role(clusterAccount, one.role).text, before);
  });

  it('EKS sees the trust policy 1.5 s late: in place without being refused in between', async () => {
    const one = newUser(world);
    world.aws.knobs.propagationMs = 1_500;
    await world.mapUser(replica, one.user, one.arn);
    const states = new Set<string | undefined>();
    await world.untilReport(replica, one.user, (found) => {
      states.add(found?.state);
      return found?.state === 'in_place';
    });
    world.aws.knobs.propagationMs = 0;
    assert.ok(!states.has('refused'));
  });

  it('EKS never sees the trust policy: pending for a minute after the write, then refused', async function () {
    this.timeout(90_000);
    const one = newUser(world);
    world.aws.knobs.propagationMs = Number.POSITIVE_INFINITY;
    const tries = () => world.aws.eksWrites.filter(({ serviceAccount }) => serviceAccount === one.account).length;
    await world.mapUser(replica, one.user, one.arn);
    await until(() => tries() >= 6, 15_000);
    await world.untilReport(
      replica,
      one.user,
      (found) => found?.code === 'waiting_for_eks' && found.state === 'pending',
    );
    world.clock.skip(61_000);
    // The jump costs the replica its lease, and its next check of the account may be 16 s away.
    await refused(one.user, 'malformed_trust_policy', 45_000).finally(() => {
      world.aws.knobs.propagationMs = 0;
    });
    await replica.stop();
    replica = await world.startReplica();
    await untilAllThere(world, one);
  });

  it('a service account that workloads of other users use: in place after the last of them', async () => {
    const one = newUser(world);
    world.domino.addUser({ name: 'mallory', orgs: [] });
    const { pod } = world.startRun('7'.repeat(24), 'mallory', { account: one.account });
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'name_taken');
    assert.equal(associationOf(world, one.account), undefined);
    assert.deepEqual(trusted(world, one.role), []);
    world.endPod(pod);
    await untilAllThere(world, one);
  });

  it('a pod with a wrong user label: no longer a conflict once the label is corrected', async () => {
    const one = newUser(world);
    world.domino.addUser({ name: one.account, orgs: [] });
    const { pod } = world.startRun('6'.repeat(24), one.account, { account: one.account });
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'name_taken');
    const there = world.kubernetes.get<Stored>('pods', compute, pod);
    assert.ok(there);
    const labels = { ...there.metadata.labels, 'dominodatalab.com/starting-user-username': one.user };
    world.kubernetes.put('pods', { ...there, metadata: { ...there.metadata, labels } });
    await untilAllThere(world, one);
    await world.untilReport(replica, one.user, (found) => found?.restart.some((left) => left.pod === pod) === true);
  });

  it('an association of another tool: never changed, even when unmapped, and in place once it is deleted', async () => {
    const [one, other] = [newUser(world), newUser(world)];
    const settings = { namespace: compute, serviceAccount: one.account, roleArn: other.arn };
    const theirs = world.aws.addAssociation({ ...settings, tags: { 'app.kubernetes.io/managed-by': 'terraform' } });
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'association_conflict');
    assert.equal(world.userMappings()?.[one.user], undefined);
    await world.unmapUser(replica, one.user);
    await until(() => statusOf(world, one.account) === undefined);
    assert.deepEqual(associationOf(world, one.account), theirs);
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'association_conflict');
    world.aws.removeAssociation(theirs.associationId);
    await untilAllThere(world, one);
    assert.deepEqual(
      world.aws.eksWrites.filter(({ associationId }) => associationId === theirs.associationId),
      [],
    );
  });

  it('an association of another tool: no trust policy is opened, even for a user without session tags', async () => {
    const one = await mappedUser(world, replica);
    world.aws.removeAssociation(associationOf(world, one.account)?.associationId ?? '');
    const theirs = world.aws.addAssociation({ namespace: compute, serviceAccount: one.account, roleArn: one.arn });
    await world.mapUser(replica, one.user, one.arn, { disable_session_tags: true });
    await refused(one.user, 'association_conflict');
    assert.equal(statusOf(world, one.account)?.session_tags, false);
    // Another user of the role makes the leader write its trust policy anew.
    const two = newUser(world);
    await world.mapUser(replica, two.user, one.arn);
    await world.untilInPlace(replica, two.user);
    assert.deepEqual(trusted(world, one.role), [one.account, two.account].sort());
    world.aws.removeAssociation(theirs.associationId);
    await untilAllThere(world, one);
    assert.deepEqual(trusted(world, one.role), ['*']);
  });

  it('mappings stored by kubectl that share a service account: both users keep their parts until fixed', async () => {
    const [one, two] = [await mappedUser(world, replica), await mappedUser(world, replica)];
    const writes = () => [world.aws.writes.length, world.aws.eksWrites.length];
    const before = writes();
    storeMappings(world, { [two.user]: { service_account: one.account, iam_role_arn: two.arn } });
    await refused(one.user, 'name_taken');
    await refused(two.user, 'name_taken');
    for (const each of [one, two]) {
      assert.equal(world.userMappings()?.[each.user], each.account);
      assert.equal(associationOf(world, each.account)?.roleArn, each.arn);
      assert.deepEqual(trusted(world, each.role), [each.account]);
    }
    assert.deepEqual(writes(), before);
    storeMappings(world, { [two.user]: { service_account: two.account, iam_role_arn: two.arn } });
    await untilAllThere(world, one);
    await untilAllThere(world, two);
    assert.deepEqual(writes(), before);
  });

  it('an unreadable mapping: all parts stay, even under a new leader, and no other user gets the account', async () => {
    const [one, other] = [await mappedUser(world, replica), newUser(world)];
    const writes = () => [
      world.aws.writes.filter(({ role }) => role === one.role),
      world.aws.eksWrites.filter(({ serviceAccount }) => serviceAccount === one.account),
    ];
    storeMappings(world, { [one.user]: '{"service_account": ' });
    await refused(one.user, 'invalid_mapping');
    assert.match(await replica.metrics.registry.metrics(), /irsa_unusable_mappings\{to="pod_identity"\} 1/);
    const before = writes();
    const body = { domino_user: other.user, service_account: one.account, iam_role_arn: other.arn };
    await replica.call('POST', '/update_pod_identity_mapping', { as: 'admin', body });
    await replica.stop();
    replica = await world.startReplica();
    await refused(one.user, 'invalid_mapping');
    await world.untilReport(replica, other.user, (found) => found?.code === 'name_taken');
    assert.equal(world.userMappings()?.[one.user], one.account);
    assert.equal(associationOf(world, one.account)?.roleArn, one.arn);
    assert.deepEqual(writes(), before);
    storeMappings(world, {
      [one.user]: { service_account: one.account, iam_role_arn: one.arn },
      [other.user]: undefined,
    });
    await untilAllThere(world, one);
    assert.deepEqual(writes(), before);
    assert.match(await replica.metrics.registry.metrics(), /irsa_unusable_mappings\{to="pod_identity"\} 0/);
  });
});
