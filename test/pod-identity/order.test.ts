/** Proves the order in which the parts of a Pod Identity are made and removed, and what is never deleted. */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { podIdentityStatusForm } from '../../src/pod-identity/status.ts';
import { statusName } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  associationOf,
  compute,
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
import { assetAccount, clusterAccount, type Replica } from '../support/world.ts';

describe('Pod Identity: order', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  /** The changes that took effect, in their order. */
  let done: string[] = [];

  before(async () => {
    world = await startPodIdentityWorld();
    const { aws, kubernetes } = world;
    const note = (writes: object[], word: (write: never) => string) => {
      const push = writes.push.bind(writes);
      writes.push = (...items) => {
        for (const item of items) done.push(word(item as never));
        return push(...items);
      };
    };
    note(aws.writes, (write: { document: string }) => (write.document.includes('-sa') ? 'trusted' : 'not trusted'));
    note(aws.eksWrites, (write: { action: string }) => write.action.replace('PodIdentityAssociation', ''));
    kubernetes.onChange('mutations', () => done.push(`mutation of ${Object.keys(world.userMappings() ?? {}).length}`));
    kubernetes.onChange('serviceaccounts', (type, object) => done.push(`account ${type} ${object.metadata?.name}`));
    replica = await world.startReplica();
  });
  after(() => world.stop());

  it('makes service account, trust, association and Mutation in this order, and removes them in reverse', async () => {
    done = [];
    const one = await mappedUser(world, replica);
    assert.deepEqual(done, [`account ADDED ${one.account}`, 'trusted', 'Create', 'mutation of 1']);
    done = [];
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
    assert.deepEqual(done, ['mutation of 0', 'Delete', 'not trusted', `account DELETED ${one.account}`]);
  });

  it('gives workloads no service account while it replaces the association to remove a target role', async () => {
    const one = await mappedUser(world, replica, { target_role_arn: `arn:aws:iam::${assetAccount}:role/acme-a` });
    done = [];
    await world.mapUser(replica, one.user, one.arn);
    await until(() => done.length === 4);
    await untilAllThere(world, one);
    assert.deepEqual(done, ['mutation of 0', 'Delete', 'Create', 'mutation of 1']);
    assert.equal(associationOf(world, one.account)?.targetRoleArn, undefined);
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
  });

  it('gives new workloads no service account for as long as EKS refuses to create the replacement', async () => {
    const one = await mappedUser(world, replica, { target_role_arn: `arn:aws:iam::${assetAccount}:role/acme-a` });
    world.aws.knobs.failRate = { CreatePodIdentityAssociation: { code: 'ServerException', rate: 1 } };
    await world.mapUser(replica, one.user, one.arn);
    await world.untilReport(replica, one.user, (found) => found?.code === 'unavailable');
    assert.equal(associationOf(world, one.account), undefined);
    assert.notEqual(world.startWorkload(one.user).account, one.account);
    world.aws.knobs.failRate = {};
    await untilAllThere(world, one);
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
  });

  it('removes no other part before the entry of the Mutation, however long that takes', async () => {
    const one = await mappedUser(world, replica);
    done = [];
    Object.assign(world.kubernetes.knobs, { refuseWritesOf: 'mutations', refusal: '403 no' });
    const stored = world.kubernetes.get<Stored>('configmaps', field, mappingName);
    const { [one.user]: _gone, ...data } = stored?.data ?? {};
    world.kubernetes.put('configmaps', { ...stored, data });
    const failed = (line: Record<string, unknown>) => /Mutation.*was not written/.test(String(line.msg));
    await until(() => replica.log.filter(failed).length >= 2);
    assert.deepEqual(done, []);
    assert.deepEqual(trusted(world, one.role), [one.account]);
    // The retry pauses first.
    const times = replica.log.filter(failed).map(({ time }) => Date.parse(String(time)));
    assert.ok((times[1] ?? 0) - (times[0] ?? 0) >= 900, String(times));
    world.kubernetes.knobs.refuseWritesOf = '';
    await untilNothingLeft(world, one);
    assert.deepEqual(done, ['mutation of 0', 'Delete', 'not trusted', `account DELETED ${one.account}`]);
  });

  it("a reconcile that began before the mapping was deleted does not put the Mutation's entry back", async () => {
    const one = await mappedUser(world, replica);
    world.aws.knobs.latencyMs = { DescribePodIdentityAssociation: 300 };
    const before = world.aws.calls.DescribePodIdentityAssociation ?? 0;
    world.kubernetes.remove('serviceaccounts', compute, one.account);
    await until(() => (world.aws.calls.DescribePodIdentityAssociation ?? 0) > before);
    done = [];
    storeMappings(world, { [one.user]: undefined });
    await untilNothingLeft(world, one);
    world.aws.knobs.latencyMs = {};
    assert.deepEqual(done, ['mutation of 0', 'Delete', 'not trusted', `account DELETED ${one.account}`]);
  });

  it('keeps a service account while a workload that the watch does not show uses it', async () => {
    const one = await mappedUser(world, replica);
    world.aws.knobs.latencyMs = { DeletePodIdentityAssociation: 300 };
    const before = world.aws.calls.DeletePodIdentityAssociation ?? 0;
    storeMappings(world, { [one.user]: undefined });
    await until(() => (world.aws.calls.DeletePodIdentityAssociation ?? 0) > before);
    world.kubernetes.knobs.freezeWatches = true;
    const { pod } = world.startRun('8'.repeat(24), one.user, { account: one.account });
    const isWaiting = () => statusOf(world, one.account)?.reason?.code === 'waiting_for_pods';
    await until(() => isWaiting() || statusOf(world, one.account) === undefined);
    world.kubernetes.knobs.freezeWatches = false;
    world.aws.knobs.latencyMs = {};
    assert.ok(world.account(one.account));
    world.endPod(pod);
    await untilNothingLeft(world, one);
  });

  it('uses a service account that existed before, and never deletes it', async () => {
    const [bare, asked] = [newUser(world), newUser(world)];
    world.kubernetes.put('serviceaccounts', { metadata: { name: bare.account, namespace: compute } });
    const body = { service_account_name: asked.account };
    assert.equal((await replica.call('POST', '/service_account', { as: 'admin', body })).status, 200);
    for (const one of [bare, asked]) {
      await world.mapUser(replica, one.user, one.arn);
      await untilAllThere(world, one);
      const before = world.account(one.account);
      await world.unmapUser(replica, one.user);
      await until(() => statusOf(world, one.account) === undefined);
      assert.deepEqual(world.account(one.account), before);
      assert.equal(associationOf(world, one.account), undefined);
    }
  });

  it('removes an association of its own without mapping or status, with its trust and service account', async () => {
    const one = await mappedUser(world, replica);
    await replica.stop();
    const maps = world.kubernetes.list<Stored>('configmaps', field);
    for (const { metadata, data } of maps) {
      const isAbout = metadata.name === mappingName || JSON.stringify(data).includes(one.account);
      if (isAbout) world.kubernetes.remove('configmaps', field, metadata.name);
    }
    replica = await world.startReplica();
    await until(() => associationOf(world, one.account) === undefined);
    await untilNothingLeft(world, one);
    assert.equal(world.userMappings(), undefined);
  });

  it('writes a deleted status again without a write to AWS', async () => {
    const one = await mappedUser(world, replica);
    const name = world.kubernetes
      .list<Stored>('configmaps', field)
      .find(({ data }) => data?.['status.json']?.includes(`"service_account":"${one.account}"`))?.metadata.name;
    assert.ok(name);
    const before = [world.aws.writes.length, world.aws.eksWrites.length];
    world.kubernetes.remove('configmaps', field, name);
    await until(() => statusOf(world, one.account)?.state === 'in_place');
    assert.deepEqual([world.aws.writes.length, world.aws.eksWrites.length], before);
  });

  it('restores a removed label of a status', async () => {
    const one = await mappedUser(world, replica);
    for (const name of [podIdentityStatusForm.nameOf(one.account), statusName(one.arn)]) {
      const map = () => world.kubernetes.get<Stored>('configmaps', field, name);
      const { labels } = map()?.metadata ?? {};
      assert.ok(labels && Object.keys(labels).length > 0, name);
      world.kubernetes.put('configmaps', { ...map(), metadata: { ...map()?.metadata, labels: undefined } });
      assert.equal(map()?.metadata.labels, undefined);
      await until(() => isDeepStrictEqual(map()?.metadata.labels, labels));
    }
    await world.untilInPlace(replica, one.user);
  });

  it('finds and deletes a service account of its own without mapping or status, and keeps others', async () => {
    const one = newUser(world);
    await world.mapUser(replica, one.user, one.arn);
    await untilAllThere(world, one);
    const made = world.kubernetes.get<object>('serviceaccounts', 'domino-compute', one.account);
    await world.unmapUser(replica, one.user);
    await untilNothingLeft(world, one);
    await replica.stop();
    // As if the leader had died before it published the status, or the status had been deleted.
    assert.ok(made);
    world.kubernetes.put('serviceaccounts', made);
    world.kubernetes.put('serviceaccounts', { metadata: { name: 'team-own-sa', namespace: 'domino-compute' } });
    replica = await world.startReplica();
    await until(() => world.account(one.account) === undefined);
    assert.ok(world.account('team-own-sa'));
    await untilNothingLeft(world, one);
  });

  it('keeps all parts of users whose statuses were deleted while no replica was leader', async () => {
    const users = [await mappedUser(world, replica), await mappedUser(world, replica)];
    await replica.stop();
    for (const { metadata, data } of world.kubernetes.list<Stored>('configmaps', field)) {
      const isStatus = users.some(({ account }) => data?.['status.json']?.includes(account));
      if (isStatus) world.kubernetes.remove('configmaps', field, metadata.name);
    }
    done = [];
    replica = await world.startReplica();
    for (const one of users) await untilAllThere(world, one);
    assert.deepEqual(done, []);
  });

  it('removes all parts when the ConfigMap of mappings is deleted by hand', async () => {
    const one = await mappedUser(world, replica);
    world.kubernetes.remove('configmaps', field, mappingName);
    await untilNothingLeft(world, one);
    await until(() => world.userMappings() === undefined);
    assert.deepEqual(world.aws.role(clusterAccount, one.role).history.at(-1)?.document, {
      Version: '2012-10-17',
      Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
    });
  });
});
