/** Proves the way from a hand-made Pod Identity installation to a managed one, as docs/pod-identity.md describes it. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import type { Replica } from '../support/world.ts';

const [user, account, role] = ['svc-user-1', 'svc-user-1-sa', 'example-eks-pod-identity1-role'];
const byHand = 'map-domino-user-k8s-sa';
const handedOver = { 'app.kubernetes.io/managed-by': 'irsa-svc', 'irsa.dominodatalab.com/domino-user': user };
const ours = { ...handedOver, 'irsa.dominodatalab.com/installation': 'domino-field' };

describe('a hand-made Pod Identity', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let arn: string;
  let association: string;

  /** As the project's guide shows it: service account, association, an open trust statement, and a Mutation. */
  beforeEach(async () => {
    world = await startPodIdentityWorld();
    world.domino.addUser({ name: user, orgs: [] });
    world.kubernetes.put('serviceaccounts', { metadata: { name: account, namespace: 'domino-compute' } });
    arn = world.addPodRole(role, {
      Sid: 'AllowEksAuthToAssumeRoleForPodIdentity',
      Effect: 'Allow',
      Principal: { Service: 'pods.eks.amazonaws.com' },
      Action: ['sts:AssumeRole', 'sts:TagSession'],
    });
    const made = { namespace: 'domino-compute', serviceAccount: account, roleArn: arn };
    association = world.aws.addAssociation(made).associationId;
    const mapping = { cloud_type: 'aws', default_sa: '', assume_sa_mapping: false };
    world.kubernetes.put('mutations', {
      metadata: { name: byHand, namespace: 'domino-platform' },
      rules: [{ cloudWorkloadIdentity: { ...mapping, user_mappings: { [user]: account } } }],
    });
    replica = await world.startReplica();
  });
  afterEach(() => world.stop());

  const conflict = async () => {
    await world.mapUser(replica, user, arn);
    await world.untilReport(replica, user, (report) => report?.code === 'association_conflict');
  };
  const holdsRole = async (pod: string) =>
    assert.match(await world.identityOf(account, pod), new RegExp(`:assumed-role/${role}/`));

  it('is left in place and reported as a conflict, and the user keeps the role', async () => {
    const before = world.startWorkload(user);
    await conflict();
    await holdsRole(before.pod);
    await holdsRole(world.startWorkload(user).pod);
    assert.equal(world.userMappings(), undefined);
    assert.equal(world.podStatement(role)?.Condition, undefined, 'the role’s statement is as it was');
  });

  it('is taken over when its owner tags the association for the service', async () => {
    const before = world.startWorkload(user);
    await conflict();
    world.aws.removeAssociation(association);
    const tagged = { namespace: 'domino-compute', serviceAccount: account, roleArn: arn, tags: handedOver };
    const { associationId } = world.aws.addAssociation(tagged);
    await world.untilInPlace(replica, user);
    assert.equal(world.aws.associations()[0]?.associationId, associationId, 'no other association is made');
    world.kubernetes.remove('mutations', 'domino-platform', byHand);
    const after = world.startWorkload(user);
    assert.deepEqual([after.account, after.hasCredentials], [account, true]);
    await holdsRole(before.pod);
    await holdsRole(after.pod);
  });

  it('is replaced when its association is deleted', async () => {
    await conflict();
    world.aws.removeAssociation(association);
    await world.untilInPlace(replica, user);
    assert.deepEqual(world.aws.associations()[0]?.tags, ours);
  });

  it('keeps its service account when the mapping is deleted', async () => {
    await conflict();
    world.aws.removeAssociation(association);
    await world.untilInPlace(replica, user);
    await world.unmapUser(replica, user);
    await world.untilReport(replica, user, (report) => report === undefined);
    assert.ok(world.account(account));
    assert.deepEqual(world.aws.associations(), []);
  });

  it('is not deleted as a leftover when it is tagged before its mapping is set', async () => {
    await replica.stop();
    world.aws.removeAssociation(association);
    const tagged = { namespace: 'domino-compute', serviceAccount: account, roleArn: arn, tags: handedOver };
    const theirs = world.aws.addAssociation(tagged);
    const leftOver = world.aws.addAssociation({ ...tagged, serviceAccount: 'svc-user-9-sa', tags: ours });
    replica = await world.startReplica();
    await until(() => !world.aws.associations().some(({ associationId: id }) => id === leftOver.associationId));
    assert.deepEqual(world.aws.associations(), [theirs]);
    await world.mapUser(replica, user, arn);
    await world.untilInPlace(replica, user);
    assert.equal(world.aws.associations()[0]?.associationId, theirs.associationId);
  });

  it("admits only mapped users to a shared role once the association is the service's", async () => {
    const other = { namespace: 'domino-compute', serviceAccount: 'svc-user-2-sa', roleArn: arn };
    world.aws.addAssociation(other);
    assert.match(await world.identityOf('svc-user-2-sa', 'run-2'), /:assumed-role\//);
    await conflict();
    assert.match(await world.identityOf('svc-user-2-sa', 'run-2'), /:assumed-role\//);
    world.aws.removeAssociation(association);
    await world.untilInPlace(replica, user);
    assert.match(await world.identityOf('svc-user-2-sa', 'run-2'), /AccessDenied/);
  });
});
