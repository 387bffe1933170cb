/** Proves that new workloads get a service account only after EKS is seen to give its pods credentials. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { compute, mappedUser, newUser, statusOf, untilAllThere } from '../support/pod-identity-users.ts';
import type { Replica } from '../support/world.ts';

describe('Pod Identity: an association that takes effect some seconds after EKS accepted it', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let mayDryRun = true;

  before(async () => {
    const rbac = ({ verb, resource }: { verb: string; resource: string }) =>
      mayDryRun || verb !== 'create' || resource !== 'pods';
    world = await startPodIdentityWorld({}, { access: { user: 'irsa-svc', rbac } });
    replica = await world.startReplica();
  });
  after(() => world.stop());
  afterEach(() => {
    world.aws.knobs.associationDelayMs = 0;
    mayDryRun = true;
  });

  const looks = () => world.kubernetes.calls.get('create pods') ?? 0;

  it('a workload gets the service account only after dry runs show that EKS gives it credentials', async () => {
    const one = newUser(world);
    world.aws.knobs.associationDelayMs = Number.POSITIVE_INFINITY;
    await world.mapUser(replica, one.user, one.arn);
    await world.untilReport(replica, one.user, (found) => found?.code === 'waiting_for_credentials');
    const before = looks();
    await until(() => looks() > before);
    assert.equal(world.userMappings()?.[one.user], undefined);
    const early = world.startWorkload(one.user);
    assert.equal(early.account, `run-${early.run}`);
    world.aws.knobs.associationDelayMs = 0;
    await untilAllThere(world, one);
    assert.ok(world.startWorkload(one.user).hasCredentials);
    assert.deepEqual((await world.report(replica, one.user))?.credentials, { seen: true });
  });

  it('three dry runs are made for a new association, none later, and no pod of theirs is stored', async () => {
    const before = looks();
    const one = await mappedUser(world, replica);
    assert.equal(looks() - before, 3);
    const made = world.kubernetes.list<{ metadata: { name: string } }>('pods', compute);
    assert.deepEqual(
      made.filter(({ metadata: { name } }) => name.startsWith('irsa-svc')),
      [],
    );
    await replica.stop();
    replica = await world.startReplica();
    await world.untilInPlace(replica, one.user);
    assert.equal(looks() - before, 3);
  });

  it('good dry runs between bad ones are not enough', async () => {
    const one = newUser(world);
    let answers = 0;
    world.kubernetes.admit((kind, object) => {
      if (kind !== 'pods') return object;
      answers += 1;
      // Two of EKS's replicas know the association, the third does not.
      return answers % 3 === 0 ? object : withVariable(object);
    });
    await world.mapUser(replica, one.user, one.arn);
    await until(() => answers >= 6);
    assert.equal(world.userMappings()?.[one.user], undefined);
    world.kubernetes.admit((kind, object) => (kind === 'pods' ? withVariable(object) : object));
    await untilAllThere(world, one);
  });

  it('without the permission, users get the role at once, and administrators see the reason', async () => {
    const one = newUser(world);
    mayDryRun = false;
    await world.mapUser(replica, one.user, one.arn);
    await untilAllThere(world, one);
    assert.equal(statusOf(world, one.account)?.credentials?.seen, false);
    const { credentials } = (await world.report(replica, one.user)) ?? {};
    assert.match(credentials?.detail ?? '', /was not looked at.*forbidden/);
    const own = await replica.call('GET', '/my_pod_identity', { as: one.user });
    assert.deepEqual((own.body as { pod_identity: { credentials: object } }).pod_identity.credentials, { seen: false });
  });
});

function withVariable<T extends object>(pod: T): T {
  const copy = structuredClone(pod) as T & { spec: { containers: { env?: { name: string; value: string }[] }[] } };
  for (const container of copy.spec.containers) {
    container.env = [{ name: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: 'http://169.254.170.23/v1/credentials' }];
  }
  return copy;
}
