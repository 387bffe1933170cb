/** Proves that a workload with Pod Identity gets its organizations' roles too, and that both work in one process. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { statusName } from '../../src/proxy-roles/status.ts';
import { hasBoto3, runBoto3 } from '../stack/clients.ts';
import { type PodIdentityAgent, startPodIdentityAgent } from '../stack/pod-identity-agent.ts';
import { until } from '../support/clock.ts';
import { cluster, type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  compute,
  field,
  mappedUser,
  type PodUser,
  type Stored,
  statusOf,
  untilNothingLeft,
} from '../support/pod-identity-users.ts';
import { clusterAccount, type Replica } from '../support/world.ts';

describe("Pod Identity: workloads that request their organizations' roles", () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  let agent: PodIdentityAgent;
  let folder: string;
  let webToken: string;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-pod-identity-'));
    webToken = join(folder, 'web-token');
    world = await startPodIdentityWorld({ WEB_IDENTITY_TOKEN_PATH: webToken });
    agent = await startPodIdentityAgent({ aws: world.aws, cluster });
    replica = await world.startReplica();
  });
  after(async () => {
    await agent.close();
    await world.stop();
    rmSync(folder, { recursive: true });
  });

  /** A user with Pod Identity, in an organization that is mapped to a role. */
  async function member(org: string): Promise<PodUser & { proxy: string }> {
    const one = await mappedUser(world, replica);
    world.domino.addUser({ name: one.user, orgs: [org] });
    const pair = world.addRolePair(org);
    await world.map(replica, org, pair);
    return { ...one, proxy: org };
  }
  const ask = (user: string, run: string) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
  const subject = (account: string) => `*:${compute}:${account}`;

  it('a static service account is a member until the last live pod of a run that asked is gone', async () => {
    const { user, account, proxy } = await member('acme-static');
    const [first, second, third] = [world.startWorkload(user), world.startWorkload(user), world.startWorkload(user)];
    for (const { run } of [first, second]) {
      const answer = await ask(user, run);
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.text, /\[profile acme-static\]/);
    }
    assert.deepEqual(world.subjects(proxy), [subject(account)]);
    assert.ok(await world.canAssume(account, `arn:aws:iam::${clusterAccount}:role/${proxy}`));
    world.endPod(first.pod);
    await until(() => !world.kubernetes.get('pods', compute, first.pod));
    world.endPod(second.pod);
    // The third run still uses the account, and did not ask.
    await until(() => !world.subjects(proxy).includes(subject(account)));
    assert.match(await world.identityOf(account, third.pod), /assumed-role/);
    await world.untilInPlace(replica, user);
  });

  it('a member stays while its service account is waiting to be deleted, and is removed with it', async () => {
    const one = await member('acme-leaving');
    const { run, pod } = world.startWorkload(one.user);
    assert.equal((await ask(one.user, run)).status, 200);
    await world.unmapUser(replica, one.user);
    await world.untilReport(replica, one.user, (found) => found?.code === 'waiting_for_pods');
    assert.equal((await ask(one.user, run)).status, 200);
    assert.deepEqual(world.subjects(one.proxy), [subject(one.account)]);
    world.endPod(pod);
    await untilNothingLeft(world, one);
    await until(() => !world.subjects(one.proxy).includes(subject(one.account)));
  });

  it('a role whose status loses its label gives the next run its profile after the label is restored', async () => {
    const { user, proxy } = await member('acme-label');
    assert.equal((await ask(user, world.startWorkload(user).run)).status, 200);
    const name = statusName(`arn:aws:iam::${clusterAccount}:role/${proxy}`);
    const map = () => world.kubernetes.get<Stored>('configmaps', field, name);
    const { labels } = map()?.metadata ?? {};
    assert.ok(labels);
    world.kubernetes.put('configmaps', { ...map(), metadata: { ...map()?.metadata, labels: undefined } });
    await until(() => isDeepStrictEqual(map()?.metadata.labels, labels));
    const answer = await ask(user, world.startWorkload(user).run);
    assert.equal(answer.status, 200, answer.text);
    assert.match(answer.text, /\[profile acme-label\]/);
  });

  it("another user's request for the run gets no role for the service account", async () => {
    const one = await member('acme-own');
    const { run } = world.startWorkload(one.user);
    world.domino.addUser({ name: 'mallory', orgs: ['acme-own'] });
    assert.equal((await ask('mallory', run)).status, 404);
    assert.ok(!world.subjects(one.proxy).includes(subject(one.account)));
    assert.equal(statusOf(world, one.account)?.state, 'in_place');
  });

  it('boto3 uses the default credentials and the profiles of the config file in one process', async function () {
    if (!(await hasBoto3())) {
      console.error('      skipped: there is no python3 with boto3 on this machine');
      this.skip();
    }
    const { user, account, role, proxy } = await member('acme-boto3');
    const { run, pod } = world.startWorkload(user);
    const answer = await ask(user, run);
    const files = { config: join(folder, 'config'), podToken: join(folder, 'pod-token') };
    writeFileSync(files.config, answer.text);
    writeFileSync(webToken, await world.issuer.podToken({ serviceAccount: account, pod }));
    const audience = 'pods.eks.amazonaws.com';
    writeFileSync(files.podToken, await world.issuer.podToken({ serviceAccount: account, pod, audience }));
    const environment = {
      ...world.aws.environment(),
      ...agent.environment(files.podToken),
      AWS_CONFIG_FILE: files.config,
    };
    const both = `
import boto3
who = lambda session: session.client('sts').get_caller_identity()['Arn']
print(who(boto3.Session()))
print(who(boto3.Session(profile_name='acme-boto3')))
print(who(boto3.Session()))
`;
    const { stdout, stderr } = await runBoto3(both, environment);
    const [first, second, third] = stdout.trim().split('\n');
    assert.match(
      first ?? '',
      new RegExp(`^arn:aws:sts::${clusterAccount}:assumed-role/${role}/eks-${cluster}-`),
      stderr,
    );
    assert.match(second ?? '', new RegExp(`^arn:aws:sts::222222222222:assumed-role/${proxy}/`), stderr);
    assert.equal(third?.split('/')[1], role);

    // The variable of the token alone, as a pod template may have it, breaks the default chain and no profile.
    const half = { ...environment, AWS_WEB_IDENTITY_TOKEN_FILE: webToken };
    const broken = await runBoto3("import boto3; boto3.client('sts').get_caller_identity()", half);
    assert.notEqual(broken.code, 0);
    assert.match(broken.stderr, /InvalidConfigError: .*assume role with web identity but has no role ARN configured/);
    const profile = `import boto3; print(boto3.Session(profile_name='acme-boto3').client('sts').get_caller_identity()['Arn'])`;
    assert.match((await runBoto3(profile, half)).stdout, /^arn:aws:sts::222222222222:assumed-role/);
  }).timeout(60_000);
});
