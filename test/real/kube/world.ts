/**
 * Owns the whole service on a real API server: the chart installed by helm, replicas with bound tokens of its service account,
 * runs with tokens of the API server's own, and the stand-ins for Domino and AWS.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { V1Pod } from '@kubernetes/client-node';
import { chart, leastValues, release, type Values } from '../../helm/render.ts';
import { installTools, run, toolPath } from '../../helm/tools.ts';
import { type AwsStandIn, startAws } from '../../stack/aws.ts';
import { type DominoStandIn, startDomino } from '../../stack/domino.ts';
import { dominoPod, dominoServiceAccount } from '../../stack/pods.ts';
import { ShiftedClock } from '../../support/clock.ts';
import { mapThrough, type Replica, settingsFor, startReplica } from '../../support/replica.ts';
import { addRolePair, reachAws, subjectsOf } from '../../support/roles.ts';
import { Unavailable } from '../tools.ts';
import { type RealCluster, startRealCluster } from './cluster.ts';
import { defineResources } from './definitions.ts';
import { createNamespaces, deleteNamespace } from './namespaces.ts';

export interface RealWorld {
  readonly cluster: RealCluster;
  readonly domino: DominoStandIn;
  readonly aws: AwsStandIn;
  readonly clock: ShiftedClock;
  readonly replicas: readonly Replica[];
  /** The settings that every replica gets, in the form of the environment. */
  readonly environment: Readonly<Record<string, string>>;
  readonly kubeconfig: string;
  startReplica(settings?: Record<string, string>): Promise<Replica>;
  /** Like the kubelet: replaces the token by one of a new Pod, and deletes the old Pod, whose token is then invalid. */
  replaceToken(): Promise<void>;
  /** A run with its service account and a running pod, started by a user that Domino knows. */
  startRun(run: string, user: string): Promise<{ account: string; pod: string }>;
  endRun(run: string): Promise<void>;
  /** Deletes a namespace with all that is in it. */
  deleteNamespace(name: string): Promise<void>;
  /** Makes the namespace anew and installs the chart over what is left of it; the replicas then have a new token. */
  reinstall(name: string): Promise<void>;
  /** A projected token of the pod, as its volume asks the API server for it. */
  podToken(account: string, pod: string, audience?: string): Promise<string>;
  addRolePair(name: string, proxies?: readonly string[]): { target: string; proxies: string[] };
  map(replica: Replica, org: string, ...pairs: { target: string; proxies: string[] }[]): Promise<void>;
  /** The members in the proxy role's trust policy, in order. */
  members(proxy: string): string[];
  stop(): Promise<void>;
}

export const field = '/api/v1/namespaces/domino-field';
export const compute = '/api/v1/namespaces/domino-compute';
export const platform = '/api/v1/namespaces/domino-platform';
export const serviceUser = 'system:serviceaccount:domino-field:irsa-svc';
const atOnce = '?gracePeriodSeconds=0';

export type Helm = (...args: string[]) => string;

/** @param helm the program; that of the chart's own check unless given. @throws Unavailable where helm cannot be obtained. */
export function helmOn(cluster: RealCluster, helm = checksHelm()): Helm {
  const where = ['-n', release.namespace, '--kubeconfig', cluster.adminKubeconfig];
  return (...args: string[]): string => {
    const { status, stdout, stderr } = run(helm, [...args, ...where]);
    if (status !== 0) throw new Error(`helm ${args[0]}: ${stderr}`);
    return stdout + stderr;
  };
}

function checksHelm(): string {
  const missing = installTools().get('helm');
  const helm = toolPath('helm');
  if (!helm) throw new Unavailable(`helm: ${missing}`);
  return helm;
}

/** @param flags of the API server. @throws Unavailable where the programs cannot be obtained. */
export async function startRealWorld(
  settings: Record<string, string> = {},
  { values = {}, flags = [] }: { values?: Values; flags?: readonly string[] } = {},
): Promise<RealWorld> {
  const cluster = await startRealCluster(flags);
  const folder = mkdtempSync(join(tmpdir(), 'irsa-real-'));
  const tokenFile = join(folder, 'token');
  const valuesFile = join(folder, 'values.json');
  const [domino, aws] = await Promise.all([startDomino(), startAws({ random: Math.random })]);
  const forgetAws = reachAws(aws);
  const clock = new ShiftedClock();
  const replicas: Replica[] = [];
  const runs = new Map<string, { account: string; pod: string }>();
  let servicePod = 0;

  const podToken: RealWorld['podToken'] = async (account, pod, audience = 'sts.amazonaws.com') =>
    requestToken(cluster, compute, account, pod, [audience]);
  async function replaceToken(): Promise<void> {
    const { spec } = await cluster.must('GET', '/apis/apps/v1/namespaces/domino-field/deployments/irsa-svc');
    const { template } = spec as { template: V1Pod };
    servicePod += 1;
    const name = `irsa-svc-${servicePod}`;
    await cluster.must('POST', `${field}/pods`, { ...template, metadata: { ...template.metadata, name } });
    writeFileSync(tokenFile, await requestToken(cluster, field, 'irsa-svc', name, []));
    const { items = [] } = await cluster.must('GET', `${field}/pods`);
    const old = items.flatMap(({ metadata }) => metadata?.name ?? []).filter((each) => each !== name);
    for (const each of old) await cluster.must('DELETE', `${field}/pods/${each}${atOnce}`);
  }

  const world: RealWorld = {
    cluster,
    domino,
    aws,
    clock,
    replicas,
    environment: { ...settingsFor(cluster.issuer, domino), ...settings },
    kubeconfig: cluster.kubeconfig(tokenFile),
    startReplica: (more = {}) =>
      startReplica({
        environment: { ...world.environment, ...more },
        kubeconfig: world.kubeconfig,
        clock,
        token: (user) => domino.token(user),
        listens: (replica) => replicas.push(replica),
      }),
    replaceToken,
    startRun: async (runId, user) => {
      const { id, name } = domino.user(user);
      const account = `run-${runId}`;
      await cluster.must('POST', `${compute}/serviceaccounts`, dominoServiceAccount(account));
      const pod = dominoPod({ runId, userId: id, userName: name, plain: true });
      const made = await cluster.must('POST', `${compute}/pods`, pod);
      const started = { account, pod: made.metadata?.name ?? '' };
      await cluster.must('PATCH', `${compute}/pods/${started.pod}/status`, { status: pod.status }, merging);
      runs.set(runId, started);
      return started;
    },
    endRun: async (runId) => {
      const { account, pod } = runs.get(runId) ?? { account: '', pod: '' };
      await cluster.must('DELETE', `${compute}/pods/${pod}${atOnce}`);
      await cluster.must('DELETE', `${compute}/serviceaccounts/${account}`);
      runs.delete(runId);
    },
    deleteNamespace: async (name) => {
      await deleteNamespace(cluster, name);
      if (name === 'domino-compute') runs.clear();
    },
    reinstall: async (name) => {
      await createNamespaces(cluster, name);
      helmOn(cluster)('upgrade', '--install', release.name, chart, '-f', valuesFile);
      await replaceToken();
    },
    podToken,
    addRolePair: (name, proxies) => addRolePair(aws, cluster.issuer, name, proxies),
    map: mapThrough,
    members: (proxy) =>
      subjectsOf(aws, cluster.issuer, proxy.slice(proxy.lastIndexOf('/') + 1))
        .flatMap((subject) => /:domino-compute:(.+)$/.exec(subject)?.[1] ?? [])
        .sort(),
    stop: async () => {
      await Promise.all(replicas.map((replica) => replica.stop()));
      await Promise.all([domino.close(), aws.close(), cluster.stop()]);
      forgetAws();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    const helm = helmOn(cluster);
    await createNamespaces(cluster, 'domino-field', 'domino-compute', 'domino-platform');
    await defineResources(cluster);
    const env = {
      ...leastValues.env,
      oidc_provider: cluster.issuer,
      domino_issuer: 'https://domino.acme.example/auth/realms/DominoRealm',
    };
    writeFileSync(valuesFile, JSON.stringify({ ...leastValues, ...values, env }));
    helm('install', release.name, chart, '-f', valuesFile);
    aws.trustIssuer(cluster.issuer, await cluster.jwks());
    domino.addUser({ name: 'admin', admin: true, orgs: [] });
    await replaceToken();
  } catch (error) {
    await world.stop();
    throw error;
  }
  return world;
}

export const merging = { 'content-type': 'application/merge-patch+json' };

/** What the kubelet asks for: a token of the account that counts for as long as the pod lives. */
export async function requestToken(
  cluster: RealCluster,
  namespace: string,
  account: string,
  pod: string,
  audiences: string[],
) {
  const { metadata } = await cluster.must('GET', `${namespace}/pods/${pod}`);
  const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: pod, uid: metadata?.uid };
  const spec = { audiences, expirationSeconds: 3600, boundObjectRef };
  const body = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec };
  const { status } = await cluster.must('POST', `${namespace}/serviceaccounts/${account}/token`, body);
  return (status as { token: string }).token;
}
