/** Proves that a Pod Identity mapping gives the user's workloads the role, and that deleting it removes all parts. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { cluster, mutationName, type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import type { Replica } from '../support/world.ts';

describe('Pod Identity', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let count = 0;

  before(async () => {
    world = await startPodIdentityWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  /** A user and a role of their own, mapped and in place. */
  async function mapped(more: object = {}) {
    count += 1;
    const user = `svc-user-${count}`;
    world.domino.addUser({ name: user, orgs: [] });
    const role = `example-eks-pod-identity${count}-role`;
    const arn = world.addPodRole(role);
    await world.mapUser(replica, user, arn, more);
    await world.untilInPlace(replica, user);
    return { user, role, arn, account: `${user}-sa` };
  }

  it("puts all four parts in place, as the project's guide shows them", async () => {
    const { user, role, arn, account } = await mapped();
    const labels = {
      'app.kubernetes.io/managed-by': 'irsa-svc',
      'irsa.dominodatalab.com/installation': 'domino-field',
    };
    assert.deepEqual(world.account(account)?.metadata.labels, labels);
    const [association] = world.aws.associations().filter((one) => one.serviceAccount === account);
    assert.equal(association?.roleArn, arn);
    assert.equal(association?.tags['app.kubernetes.io/managed-by'], 'irsa-svc');
    assert.deepEqual(world.podStatement(role), {
      Sid: 'AllowEksAuthToAssumeRoleForPodIdentity',
      Effect: 'Allow',
      Principal: { Service: 'pods.eks.amazonaws.com' },
      Action: ['sts:AssumeRole', 'sts:TagSession'],
      Condition: {
        StringEquals: {
          'aws:RequestTag/eks-cluster-arn': ['arn:aws:eks:us-west-2:111111111111:cluster/acme'],
          'aws:RequestTag/kubernetes-namespace': ['domino-compute'],
          'aws:RequestTag/kubernetes-service-account': [account],
        },
      },
    });
    assert.equal(world.userMappings()?.[user], account);
    const workload = world.startWorkload(user);
    assert.deepEqual([workload.account, workload.hasCredentials], [account, true]);
    const identity = await world.identityOf(account, workload.pod);
    assert.match(identity, new RegExp(`^arn:aws:sts::111111111111:assumed-role/${role}/eks-${cluster}-`));
  });

  it('does not change the service accounts of users without a mapping', async () => {
    await mapped();
    world.domino.addUser({ name: 'svc-user-dynamic', orgs: [] });
    const { run, account, hasCredentials } = world.startWorkload('svc-user-dynamic');
    assert.deepEqual([account, hasCredentials], [`run-${run}`, false]);
  });

  it('removes all parts when the mapping is deleted, the service account after its last pod', async () => {
    const { user, role, account } = await mapped();
    const { pod } = world.startWorkload(user);
    await world.unmapUser(replica, user);
    await world.untilReport(replica, user, (found) => found?.code === 'waiting_for_pods');
    assert.equal(world.userMappings()?.[user], undefined);
    assert.deepEqual(
      world.aws.associations().filter((one) => one.serviceAccount === account),
      [],
    );
    assert.equal(world.podStatement(role), undefined);
    assert.match(await world.identityOf(account, pod), /AccessDenied/);
    assert.ok(world.account(account));
    world.endPod(pod);
    await until(() => world.account(account) === undefined);
    await world.untilReport(replica, user, (found) => found === undefined);
  });

  it('writes nothing when the same mapping is set again, or when another leader takes over', async () => {
    const { user, arn } = await mapped();
    const mutation = () => world.kubernetes.get<Versioned>('mutations', 'domino-platform', mutationName);
    const written = () => [world.aws.writes.length, world.aws.eksWrites.length, mutation()?.metadata.resourceVersion];
    const before = written();
    await world.mapUser(replica, user, arn);
    await replica.stop();
    const looked = () => world.aws.calls.DescribePodIdentityAssociation ?? 0;
    const lookedBefore = looked();
    replica = await world.startReplica();
    await until(() => looked() >= lookedBefore + world.aws.associations().length);
    await world.untilInPlace(replica, user);
    assert.deepEqual(written(), before);
  });
});

interface Versioned {
  metadata: { resourceVersion: string };
}
