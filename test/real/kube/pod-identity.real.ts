/** Proves Pod Identity on a real API server: the dry-run Pod through webhooks, the Mutation, and the pods that it makes. */
import assert from 'node:assert/strict';
import { startPodIdentityAgent } from '../../stack/pod-identity-agent.ts';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { clusterAccount } from '../../support/roles.ts';
import { runId } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { type PodWebhook, startPodWebhook } from './pod-webhook.ts';
import { compute, platform, type RealWorld, serviceUser, startRealWorld } from './world.ts';

const user = 'svc-user-1';
const mutation = '/apis/apps.dominodatalab.com/v1alpha1/namespaces/domino-platform/mutations/irsa-pod-identity';

describe('Pod Identity on kube-apiserver', function () {
  this.timeout(30 * 60_000);
  let world: RealWorld;
  let webhook: PodWebhook;
  let replica: Replica;
  let agent: Awaited<ReturnType<typeof startPodIdentityAgent>>;

  before(async function () {
    const settings = { EKS_CLUSTER_NAME: 'acme', IAM_READS_PER_SECOND: '200', IAM_WRITES_PER_SECOND: '200' };
    const podIdentity = { enabled: true, clusterName: 'acme', dryRunPods: true };
    const values = { podIdentity, admissionPolicy: { enabled: true } };
    world = await orSkip(this, () => startRealWorld(settings, { values }));
    const { aws, cluster } = world;
    webhook = await startPodWebhook(cluster, (namespace, account) => aws.associationActs(namespace, account));
    agent = await startPodIdentityAgent({ aws, cluster: 'acme' });
    world.domino.addUser({ name: user, orgs: [] });
    replica = await world.startReplica();
  });
  after(async () => {
    await Promise.all([agent?.close(), webhook?.close(), world?.stop()]);
  });

  const admin = async (method: 'POST' | 'DELETE', path: string, body: object) => {
    const answer = await replica.call(method, path, { as: 'admin', body });
    assert.equal(answer.status, 200, answer.text);
  };

  it('brings a user’s mapping in place, and creates pods for its check only as a dry run', async () => {
    const Statement = [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }];
    const trust = { Version: '2012-10-17', Statement };
    const { arn } = world.aws.addRole({ account: clusterAccount, name: 'role-1', trust });
    await admin('POST', '/update_pod_identity_mapping', { domino_user: user, iam_role_arn: arn });
    let last: unknown;
    await until(async () => {
      const { body } = await replica.call('GET', '/trust_status', { as: 'admin' });
      const { pod_identities: reports } = body as { pod_identities?: { domino_user: string; state: string }[] };
      last = reports;
      return reports?.some((one) => one.domino_user === user && one.state === 'in_place') === true;
    }, 60_000).catch(() => assert.fail(JSON.stringify(last)));
    assert.ok(webhook.seen.length > 0, 'no dry-run Pod');
    for (const seen of webhook.seen) assert.deepEqual(seen, { user: serviceUser, dryRun: true });
    assert.deepEqual((await world.cluster.must('GET', `${compute}/pods`)).items, []);
    const { rules } = await world.cluster.must('GET', mutation);
    assert.match(JSON.stringify(rules), /"user_mappings":\{"svc-user-1":"svc-user-1-sa"\}/);
  });

  it("gives the user's pods the service account, and a pod's token the credentials of the role", async () => {
    const { pod } = await world.startRun(runId(1), user);
    const { spec } = (await world.cluster.must('GET', `${compute}/pods/${pod}`)) as unknown as {
      spec: { serviceAccountName: string; containers: { env: { name: string }[] }[] };
    };
    assert.equal(spec.serviceAccountName, 'svc-user-1-sa');
    for (const { env } of spec.containers) {
      assert.ok(env.some(({ name }) => name === 'AWS_CONTAINER_CREDENTIALS_FULL_URI'));
    }
    const token = await world.podToken('svc-user-1-sa', pod, 'pods.eks.amazonaws.com');
    const answer = await fetch(agent.credentialsUrl, { headers: { Authorization: token } });
    assert.equal(answer.status, 200, await answer.clone().text());
    assert.match(await answer.text(), /"AccessKeyId"/);
  });

  it('removes the Mutation and the service account with the mapping', async () => {
    await world.endRun(runId(1));
    await admin('DELETE', '/delete_pod_identity_mapping', { domino_user: user });
    const code = async (path: string) => (await fetch(world.cluster.url + path)).status;
    await until(async () => (await code(mutation)) === 404, 60_000);
    await until(async () => (await code(`${compute}/serviceaccounts/svc-user-1-sa`)) === 404, 60_000);
    assert.equal(await code(platform), 200);
  });
});
