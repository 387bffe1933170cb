/** Owns additions to a world for tests of Pod Identity: roles, workloads as domsed and EKS make them, and views of each part. */
import assert from 'node:assert/strict';
import type { V1Pod } from '@kubernetes/client-node';
import type { PodIdentityReport } from '../../src/reports/pod-identity.ts';
import { startPodIdentityAgent } from '../stack/pod-identity-agent.ts';
import { podWebhooks } from '../stack/pod-webhooks.ts';
import { computeNamespace, dominoPod, dominoServiceAccount } from '../stack/pods.ts';
import { until } from './clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World, type WorldOptions } from './world.ts';

export const cluster = 'acme';
export const mutationName = 'irsa-pod-identity';

export interface PodIdentityWorld extends World {
  /** Creates a role in the cluster's account. @returns its ARN. */
  addPodRole(name: string, ...statements: object[]): string;
  /** Maps the user as an administrator, and fails where the service refuses. */
  mapUser(replica: Replica, user: string, role: string, more?: object): Promise<void>;
  unmapUser(replica: Replica, user: string): Promise<void>;
  /** Creates a workload of the user; domsed and EKS change its pod at creation. */
  startWorkload(user: string): { run: string; pod: string; account: string; hasCredentials: boolean };
  endPod(pod: string): void;
  /** Domino user -> service account, from the Mutation; undefined where there is no Mutation. */
  userMappings(): Record<string, string> | undefined;
  account(name: string): { metadata: { labels?: object; annotations?: object } } | undefined;
  /** The statement for Pod Identity in the role's trust policy. */
  podStatement(role: string): Record<string, unknown> | undefined;
  report(replica: Replica, user: string): Promise<PodIdentityReport | undefined>;
  /** Waits until the user's report has this state. */
  untilReport(
    replica: Replica,
    user: string,
    holds: (report: PodIdentityReport | undefined) => boolean,
    timeoutMs?: number,
  ): Promise<void>;
  untilInPlace(replica: Replica, user: string): Promise<void>;
  /** The pod's identity in AWS with its default credentials, through the agent; the error's code where it gets none. */
  identityOf(account: string, pod: string): Promise<string>;
}

export async function startPodIdentityWorld(
  settings: Record<string, string> = {},
  options: WorldOptions = {},
): Promise<PodIdentityWorld> {
  const own = {
    EKS_CLUSTER_NAME: cluster,
    IAM_READS_PER_SECOND: '200',
    IAM_WRITES_PER_SECOND: '200',
    LEASE_SECONDS: '60',
    ...settings,
  };
  const world = await startWorld(own, options);
  const { aws, kubernetes } = world;
  const associationOf = (namespace: string, account: string) => aws.associationActs(namespace, account);
  kubernetes.admit(podWebhooks({ associationOf }));
  const agent = await startPodIdentityAgent({ aws, cluster });
  let next = 70_000;

  async function report(replica: Replica, user: string): Promise<PodIdentityReport | undefined> {
    const answer = await replica.call('GET', '/trust_status', { as: 'admin' });
    const { pod_identities: reports } = answer.body as { pod_identities?: PodIdentityReport[] };
    return reports?.find((one) => one.domino_user === user);
  }
  async function untilReport(
    replica: Replica,
    user: string,
    holds: (found: PodIdentityReport | undefined) => boolean,
    timeoutMs = 8_000,
  ) {
    let last: PodIdentityReport | undefined;
    try {
      await until(async () => {
        last = await report(replica, user);
        return holds(last);
      }, timeoutMs);
    } catch {
      assert.fail(`not so for ${user}, whose report says ${JSON.stringify(last, null, 1)}`);
    }
  }
  async function change(replica: Replica, method: 'POST' | 'DELETE', path: string, body: object) {
    const answer = await replica.call(method, path, { as: 'admin', body });
    assert.equal(answer.status, 200, answer.text);
  }

  return {
    ...world,
    addPodRole: (name, ...statements) => {
      const ec2 = { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' };
      const Statement = statements.length > 0 ? statements : [ec2];
      return aws.addRole({ account: clusterAccount, name, trust: { Version: '2012-10-17', Statement } }).arn;
    },
    mapUser: (replica, user, role, more = {}) =>
      change(replica, 'POST', '/update_pod_identity_mapping', { domino_user: user, iam_role_arn: role, ...more }),
    unmapUser: (replica, user) => change(replica, 'DELETE', '/delete_pod_identity_mapping', { domino_user: user }),
    startWorkload: (name) => {
      const user = world.domino.user(name);
      const run = runId(next++);
      kubernetes.put('serviceaccounts', dominoServiceAccount(`run-${run}`));
      const made: V1Pod = kubernetes.put(
        'pods',
        dominoPod({ runId: run, userId: user.id, userName: name, plain: true }),
      );
      const { containers, serviceAccountName: account = '' } = made.spec ?? { containers: [] };
      const variables = containers.flatMap(({ env = [] }) => env.map((variable) => variable.name));
      const hasCredentials = variables.includes('AWS_CONTAINER_CREDENTIALS_FULL_URI');
      return { run, pod: made.metadata?.name ?? '', account, hasCredentials };
    },
    endPod: (pod) => kubernetes.remove('pods', computeNamespace, pod),
    userMappings: () => {
      interface Rules {
        rules: { cloudWorkloadIdentity: { user_mappings: Record<string, string> } }[];
      }
      const found = kubernetes.get<Rules>('mutations', 'domino-platform', mutationName);
      return found?.rules[0]?.cloudWorkloadIdentity.user_mappings;
    },
    account: (name) => kubernetes.get('serviceaccounts', computeNamespace, name),
    podStatement: (role) => {
      const { document } = aws.role(clusterAccount, role);
      const { Statement: statements } = document as { Statement: Record<string, unknown>[] };
      return statements.find(({ Sid: sid }) => String(sid).startsWith('AllowEksAuth'));
    },
    report,
    untilReport,
    untilInPlace: (replica, user) => untilReport(replica, user, (found) => found?.state === 'in_place'),
    identityOf: async (account, pod) => {
      const token = await world.issuer.podToken({
        serviceAccount: account,
        pod,
        audience: 'pods.eks.amazonaws.com',
      });
      const answer = await fetch(agent.credentialsUrl, { headers: { Authorization: token } });
      const text = await answer.text();
      if (!answer.ok) return text;
      const { AccessKeyId, SecretAccessKey, Token } = JSON.parse(text) as Record<string, string>;
      const { GetCallerIdentityCommand, STSClient } = await import('@aws-sdk/client-sts');
      const sts = new STSClient({
        region: 'us-west-2',
        credentials: {
          accessKeyId: AccessKeyId ?? '',
          secretAccessKey: SecretAccessKey ?? '',
          sessionToken: Token ?? '',
        },
      });
      return (await sts.send(new GetCallerIdentityCommand({}))).Arn ?? '';
    },
    stop: async () => {
      await agent.close();
      await world.stop();
    },
  };
}
