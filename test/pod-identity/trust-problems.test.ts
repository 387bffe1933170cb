/** Proves that roles which other tools leave open, or keep stricter, are reported and never opened further. */
import assert from 'node:assert/strict';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { associationOf, newUser, trusted, untilAllThere } from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

const pods = (more: object = {}) => ({
  Effect: 'Allow',
  Principal: { Service: 'pods.eks.amazonaws.com' },
  Action: ['sts:AssumeRole', 'sts:TagSession'],
  ...more,
});
const otherCluster = { StringEquals: { 'aws:SourceArn': 'arn:aws:eks:us-west-2:111111111111:cluster/blue' } };

describe('Pod Identity: statements of other tools in the role’s trust policy', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld({ RESYNC_SECONDS: '1' });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const refused = (user: string, code: string) =>
    world.untilReport(replica, user, (found) => found?.code === code && found.state === 'refused');

  it('a role open to every association of the AWS account works, but is reported until it is closed', async () => {
    const one = newUser(world, pods());
    const preview = await replica.call('POST', '/update_pod_identity_mapping?dry_run=true', {
      as: 'admin',
      body: { domino_user: one.user, iam_role_arn: one.arn },
    });
    const { warnings } = preview.body as { warnings: { code: string; detail: string }[] };
    assert.deepEqual(
      warnings.map(({ code }) => code),
      ['trust_policy_open'],
    );
    assert.match(warnings[0]?.detail ?? '', /statement number 1/);
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'trust_policy_open');
    assert.deepEqual(trusted(world, one.role), [one.account]);
    assert.equal(world.userMappings()?.[one.user], one.account);
    assert.ok(world.startWorkload(one.user).hasCredentials);
    const told = replica.log.filter(({ role, code }) => role === one.arn && code === 'trust_policy_open');
    assert.equal(told.length, 1);
    const { document } = world.aws.role(clusterAccount, one.role);
    const [, ours] = document.Statement as object[];
    world.aws.setTrust(clusterAccount, one.role, { ...document, Statement: [ours] });
    await untilAllThere(world, one);
    // Another tool opens it again.
    world.aws.setTrust(clusterAccount, one.role, { ...document, Statement: [ours, pods({ Sid: 'Eksctl' })] });
    await refused(one.user, 'trust_policy_open');
    await replica.stop();
    replica = await world.startReplica();
    await refused(one.user, 'trust_policy_open');
  });

  it('a role whose statement requires another cluster gets no second statement, and the report says why', async () => {
    const one = newUser(world, pods({ Condition: otherCluster }));
    const before = world.aws.role(clusterAccount, one.role).text;
    await world.mapUser(replica, one.user, one.arn);
    await refused(one.user, 'trust_policy_stricter');
    const { reason } = (await world.report(replica, one.user)) ?? {};
    assert.match(reason ?? '', /statement number 1 asks for aws:SourceArn .*cluster\/blue/);
    assert.equal(world.aws.role(clusterAccount, one.role).text, before);
    assert.equal(associationOf(world, one.account), undefined);
    assert.equal(world.userMappings()?.[one.user], undefined);
    world.aws.setTrust(clusterAccount, one.role, { Version: '2012-10-17', Statement: [pods({ Condition: ofThis })] });
    await replica.stop();
    replica = await world.startReplica();
    await untilAllThere(world, one);
  });
  const ofThis = { StringEquals: { 'aws:SourceArn': 'arn:aws:eks:us-west-2:111111111111:cluster/acme' } };

  it('a dry run warns about a missing role, and does not warn about a sound one', async () => {
    const one = newUser(world);
    const preview = async (arn: string) => {
      const body = { domino_user: one.user, iam_role_arn: arn };
      const answer = await replica.call('POST', '/update_pod_identity_mapping?dry_run=true', { as: 'admin', body });
      return (answer.body as { warnings: { code: string }[] }).warnings.map(({ code }) => code);
    };
    assert.deepEqual(await preview(one.arn), []);
    assert.deepEqual(await preview(`${one.arn}-not`), ['role_not_found']);
  });
});
