/** Proves that each external change to a part of a Pod Identity is repaired and reported once, and no own write is. */
import assert from 'node:assert/strict';
import { statusName } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { mutationName, type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  compute,
  field,
  mappedUser,
  mutation,
  newUser,
  type PodUser,
  type Stored,
  statusOf,
  trusted,
  untilAllThere,
} from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

describe('Pod Identity: external changes', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld({ RESYNC_SECONDS: '1' });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const told = (msg: string) => replica.log.filter((line) => line.msg === msg);
  const changed = 'what Pod Identity needs was changed externally';
  const changedMutation = 'the Mutation was changed externally';
  async function counted(part: string): Promise<number> {
    const text = await replica.metrics.registry.metrics();
    return Number(new RegExp(`irsa_pod_identity_drift_total\\{part="${part}"\\} (\\d+)`).exec(text)?.[1] ?? 0);
  }
  const events = (about: string) =>
    world.kubernetes
      .list<Stored>('events', field)
      .filter(({ reason, message }) => reason === 'PodIdentityChanged' && message?.includes(about)).length;

  /** Makes the change, waits for the repair, and checks that the change was reported exactly once. */
  async function repaired(one: PodUser, act: () => void, isChanged: () => boolean): Promise<void> {
    const before = { lines: told(changed).length, metric: await counted('account') };
    act();
    await until(isChanged);
    await until(() => statusOf(world, one.account)?.drift !== undefined);
    await untilAllThere(world, one);
    assert.equal(told(changed).length, before.lines + 1);
    assert.equal(told(changed).at(-1)?.level, 'warn');
    assert.equal(told(changed).at(-1)?.service_account, one.account);
    assert.equal(await counted('account'), before.metric + 1);
    await until(() => events(one.account) === 1);
    assert.equal(statusOf(world, one.account)?.drift?.count, 1);
    await world.untilReport(replica, one.user, (found) => found?.drift?.count === 1);
  }

  it('a deleted service account is created again', async () => {
    const one = await mappedUser(world, replica);
    await repaired(
      one,
      () => world.kubernetes.remove('serviceaccounts', compute, one.account),
      () => world.account(one.account) !== undefined,
    );
    assert.deepEqual(statusOf(world, one.account)?.drift?.missing, ['service account']);
  });

  it('a deleted association is created again', async () => {
    const one = await mappedUser(world, replica);
    const before = associationOf(world, one.account)?.associationId ?? '';
    await repaired(
      one,
      () => world.aws.removeAssociation(before),
      () => ![undefined, before].includes(associationOf(world, one.account)?.associationId),
    );
    assert.deepEqual(statusOf(world, one.account)?.drift?.missing, [`association ${before}`]);
  });

  it('an association that was given another role gets its own role back', async () => {
    const one = await mappedUser(world, replica);
    const other = newUser(world);
    const id = associationOf(world, one.account)?.associationId ?? '';
    await repaired(
      one,
      () => world.aws.changeAssociation(id, { roleArn: other.arn }),
      () => associationOf(world, one.account)?.roleArn === one.arn,
    );
    assert.deepEqual(statusOf(world, one.account)?.drift?.extra, [`association ${id} with ${other.arn}`]);
    assert.equal(associationOf(world, one.account)?.associationId, id);
  });

  it('a replaced association is left alone as a conflict, and new workloads do not get the account', async () => {
    const one = await mappedUser(world, replica);
    const other = newUser(world);
    world.aws.removeAssociation(associationOf(world, one.account)?.associationId ?? '');
    const theirs = world.aws.addAssociation({ namespace: compute, serviceAccount: one.account, roleArn: other.arn });
    await world.untilReport(replica, one.user, (found) => found?.code === 'association_conflict');
    await until(() => world.userMappings()?.[one.user] === undefined);
    assert.equal(world.startWorkload(one.user).account === one.account, false);
    // So that the next leader does not give the service account to workloads again.
    await until(() => statusOf(world, one.account)?.parts.mutation === false);
    assert.deepEqual(associationOf(world, one.account), theirs);
    assert.equal(statusOf(world, one.account)?.drift?.count, 1);
    world.aws.removeAssociation(theirs.associationId);
    await untilAllThere(world, one);
    assert.equal(statusOf(world, one.account)?.drift?.count, 1);
  });

  it('an unmapped role stops trusting the account even while another tool’s association conflicts', async () => {
    const one = await mappedUser(world, replica);
    const next = newUser(world);
    world.aws.removeAssociation(associationOf(world, one.account)?.associationId ?? '');
    const theirs = world.aws.addAssociation({ namespace: compute, serviceAccount: one.account, roleArn: one.arn });
    await world.untilReport(replica, one.user, (found) => found?.code === 'association_conflict');
    assert.deepEqual(trusted(world, one.role), [one.account], 'the mapped role still trusts the account');
    await world.mapUser(replica, one.user, next.arn);
    await until(() => trusted(world, one.role).length === 0);
    await until(() => statusOf(world, one.account)?.trusted_by.length === 0);
    assert.deepEqual(trusted(world, next.role), []);
    world.aws.removeAssociation(theirs.associationId);
    await untilAllThere(world, one, next.arn);
  });

  it('a trust statement that was edited or removed is restored', async () => {
    const one = await mappedUser(world, replica);
    const status = () => world.kubernetes.get<Stored>('configmaps', field, statusName(one.arn))?.data?.['status.json'];
    const edits = [
      (statements: object[]) => statements.slice(0, 1),
      (statements: object[]) => [
        ...statements.slice(0, 1),
        JSON.parse(JSON.stringify(statements[1]).replace(one.account, 'mallory-sa')),
      ],
    ];
    for (const [index, edit] of edits.entries()) {
      // Longer than IAM may show an earlier document, and shorter than the lease.
      world.clock.skip(16_000);
      const { document } = world.aws.role(clusterAccount, one.role);
      const statements = document.Statement as object[];
      world.aws.setTrust(clusterAccount, one.role, { ...document, Statement: edit(statements) });
      assert.notDeepEqual(trusted(world, one.role), [one.account]);
      await until(() => trusted(world, one.role).join() === one.account);
      await until(() => JSON.parse(status() ?? '{}').drift?.count === index + 1);
    }
    const lines = told('the trust policy was changed externally').filter(({ role }) => role === one.arn);
    assert.equal(lines.length, 2);
    assert.deepEqual(lines[1]?.extra, ['pods.eks.amazonaws.com:mallory-sa']);
    const text = await replica.metrics.registry.metrics();
    assert.match(text, new RegExp(`irsa_trust_policy_drift_total\\{role="${one.arn}"\\} 2`));
    assert.equal(world.kubernetes.list<Stored>('events', field).filter((e) => e.message?.includes(one.arn)).length, 2);
    await world.untilInPlace(replica, one.user);
  });

  it('a Mutation that was overwritten or deleted is restored', async () => {
    const one = await mappedUser(world, replica);
    const wanted = world.userMappings();
    const acts = [
      () => {
        const mine = mutation(world);
        const rules = [{ cloudWorkloadIdentity: { cloud_type: 'aws', user_mappings: { mallory: one.account } } }];
        world.kubernetes.put('mutations', { ...mine, rules });
      },
      () => void world.kubernetes.remove('mutations', 'domino-platform', mutationName),
    ];
    for (const act of acts) {
      const before = { lines: told(changedMutation).length, metric: await counted('mutation') };
      act();
      await until(() => JSON.stringify(world.userMappings()) === JSON.stringify(wanted));
      assert.equal(told(changedMutation).length, before.lines + 1);
      assert.equal(await counted('mutation'), before.metric + 1);
    }
    await until(() => events(`Mutation ${mutationName}`) === 2);
    await world.untilInPlace(replica, one.user);
  });
});

describe('Pod Identity: a tool that keeps changing it', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  beforeEach(async () => {
    world = await startPodIdentityWorld();
    replica = await world.startReplica();
  });
  afterEach(() => world.stop());

  it('makes the repair wait as contested, and an administrator can still delete the mapping', async () => {
    const one = await mappedUser(world, replica);
    for (const drifts of [1, 2, 3]) {
      world.kubernetes.remove('serviceaccounts', compute, one.account);
      await until(() => statusOf(world, one.account)?.drift?.count === drifts);
      await untilAllThere(world, one);
    }
    world.kubernetes.remove('serviceaccounts', compute, one.account);
    await world.untilReport(replica, one.user, (found) => found?.code === 'contested');
    assert.ok(statusOf(world, one.account)?.contested_until);
    assert.equal(world.account(one.account), undefined);
    await world.unmapUser(replica, one.user);
    await until(() => statusOf(world, one.account) === undefined);
    assert.equal(associationOf(world, one.account), undefined);
  });

  it('does not delay an administrator’s change of the Mutation', async () => {
    const one = await mappedUser(world, replica);
    const overwrite = () => {
      world.kubernetes.put('mutations', {
        ...mutation(world),
        rules: [{ cloudWorkloadIdentity: { user_mappings: {} } }],
      });
    };
    for (const _ of [1, 2, 3]) {
      overwrite();
      await until(() => world.userMappings()?.[one.user] === one.account);
    }
    overwrite();
    await until(() =>
      replica.log.some(
        ({ msg, audit, pause_ms: pause }) =>
          /the Mutation was changed externally$/.test(String(msg)) && audit === 'external_change' && pause === 5000,
      ),
    );
    assert.equal(world.userMappings()?.[one.user], undefined);
    const other = await mappedUser(world, replica);
    assert.deepEqual(world.userMappings(), { [one.user]: one.account, [other.user]: other.account });
  });

  it('is not reported for the service’s own writes, even when the watches are behind', async () => {
    const one = newUser(world);
    const two = newUser(world);
    await mappedUser(world, replica);
    await world.mapUser(replica, one.user, one.arn);
    world.kubernetes.knobs.freezeWatches = true;
    await until(() => associationOf(world, one.account) !== undefined).catch(() => undefined);
    world.kubernetes.knobs.freezeWatches = false;
    await untilAllThere(world, one);
    await world.mapUser(replica, two.user, two.arn);
    await untilAllThere(world, two);
    await world.mapUser(replica, two.user, two.arn, { disable_session_tags: true });
    await until(() => associationOf(world, two.account)?.disableSessionTags === true);
    await untilAllThere(world, two);
    assert.deepEqual(
      replica.log.filter(({ msg }) => /changed externally/.test(String(msg))),
      [],
    );
  });
});
