/** Owns a whole world for a test: Domino, Kubernetes and AWS stand-ins, and replicas of the service against them. */
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { type DominoStandIn, startDomino } from '../stack/domino.ts';
import { type ClusterIssuer, createIssuer } from '../stack/issuer.ts';
import { type KubernetesStandIn, startKubernetes } from '../stack/kubernetes.ts';
import type { AccessCheck } from '../stack/kubernetes-access.ts';
import { defaultTransport, type Transport } from '../stack/kubernetes-transport.ts';
import { podIdentityWebhook } from '../stack/pod-webhooks.ts';
import { dominoPod, dominoServiceAccount } from '../stack/pods.ts';
import { ShiftedClock, until } from './clock.ts';
import { mapThrough, type Replica, settingsFor, startReplica as startReplicaOf } from './replica.ts';
import { addRolePair, assumes, reachAws, subjectsOf } from './roles.ts';

export type { CallOptions, Replica } from './replica.ts';
export { assetAccount, clusterAccount } from './roles.ts';

export interface RunOptions {
  account?: string;
  phase?: 'Pending' | 'Running' | 'Succeeded' | 'Failed';
}

export interface World {
  /** The clock of every replica. */
  clock: ShiftedClock;
  domino: DominoStandIn;
  kubernetes: KubernetesStandIn;
  aws: AwsStandIn;
  issuer: ClusterIssuer;
  /** The settings that every replica gets, in the form of the environment. */
  environment: Record<string, string>;
  /** Resolves when it is ready; from the moment that it listens it is among the replicas. */
  startReplica(settings?: Record<string, string>): Promise<Replica>;
  replicas: readonly Replica[];
  /** A run with its service account and a running pod, started by a user that Domino knows. */
  startRun(run: string, user: string, options?: RunOptions): { account: string; pod: string };
  endRun(run: string): void;
  /** A proxy role in the cluster's account, with a trust policy that Terraform just made, and its target. */
  addRolePair(name: string, proxies?: readonly string[]): { target: string; proxies: string[] };
  /** An administrator's mapping of an organization to these pairs, through a replica. */
  map(replica: Replica, org: string, ...pairs: { target: string; proxies: string[] }[]): Promise<void>;
  /** The subjects that a proxy role's trust policy lets in. */
  subjects(proxy: string): string[];
  /** Whether STS lets a pod of the service account assume the proxy role. */
  canAssume(account: string, proxyArn: string): Promise<boolean>;
  stop(): Promise<void>;
}

export interface WorldOptions {
  /** Who may do what in Kubernetes, and who the replicas are there. */
  access?: { rbac: AccessCheck; user: string };
  /** How the replicas reach Kubernetes. */
  transport?: Transport;
  /** The realm's issuer is the stand-in's own address, so that a browser can log in. */
  isRealmReachable?: boolean;
  /** Decides which calls of AWS a share of failures meets; 0 to 1, as Math.random. */
  random?: () => number;
}

export async function startWorld(settings: Record<string, string> = {}, options: WorldOptions = {}): Promise<World> {
  const { access, random = Math.random, transport = defaultTransport(), isRealmReachable = false } = options;
  const issuer = await createIssuer();
  const [domino, kubernetes, aws] = await Promise.all([
    startDomino({ isReachable: isRealmReachable }),
    startKubernetes({ ...(access ? { rbac: access.rbac } : {}), transport, issuer }),
    startAws({ random }),
  ]);
  aws.trustIssuer(issuer.issuer, issuer.jwks);
  domino.addUser({ name: 'admin', admin: true, orgs: [] });
  const environment = { ...settingsFor(issuer.issuer, domino), ...settings };
  kubernetes.admit(podIdentityWebhook((namespace, account) => aws.associationActs(namespace, account)));
  const forgetAws = reachAws(aws);
  const clock = new ShiftedClock();
  const replicas: Replica[] = [];
  const runs = new Map<string, { pod: string; account: string }[]>();

  const startReplica = (more: Record<string, string> = {}) =>
    startReplicaOf({
      environment: { ...environment, ...more },
      kubeconfig: kubernetes.kubeconfig(access?.user),
      clock,
      token: (user) => domino.token(user),
      listens: (replica) => replicas.push(replica),
    });

  return {
    clock,
    replicas,
    domino,
    kubernetes,
    aws,
    issuer,
    environment,
    startReplica,
    startRun: (run, user, options = {}) => {
      const account = options.account ?? `run-${run}`;
      const { id, name } = domino.user(user);
      if (!kubernetes.get('serviceaccounts', 'domino-compute', account)) {
        kubernetes.put('serviceaccounts', dominoServiceAccount(account));
      }
      const known = runs.get(run) ?? [];
      const pod = dominoPod({
        runId: run,
        userId: id,
        userName: name,
        serviceAccount: account,
        phase: options.phase ?? 'Running',
        index: known.length,
      });
      kubernetes.put('pods', pod);
      const started = { pod: pod.metadata?.name ?? '', account };
      runs.set(run, [...known, started]);
      return started;
    },
    endRun: (run) => {
      for (const { pod, account } of runs.get(run) ?? []) {
        kubernetes.remove('pods', 'domino-compute', pod);
        if (account === `run-${run}`) kubernetes.remove('serviceaccounts', 'domino-compute', account);
      }
      runs.delete(run);
    },
    addRolePair: (name, proxies = [name]) => addRolePair(aws, issuer.issuer, name, proxies),
    map: mapThrough,
    subjects: (proxy) => subjectsOf(aws, issuer.issuer, proxy),
    canAssume: async (account, proxyArn) => assumes(await issuer.podToken({ serviceAccount: account }), proxyArn),
    stop: async () => {
      await Promise.all(replicas.map((replica) => replica.stop()));
      await Promise.all([domino.close(), kubernetes.close(), aws.close()]);
      forgetAws();
    },
  };
}

/** From now on lists of all kinds are empty by mistake; resolves when each copy of these kinds has taken that: its fourth. */
export async function emptyLists({ kubernetes }: World, kinds: readonly string[]): Promise<void> {
  kubernetes.knobs.emptyLists = true;
  kubernetes.expire();
  kubernetes.cutWatches();
  const lists = (kind: string) => kubernetes.calls.get(`list ${kind}`) ?? 0;
  const enough = new Map(kinds.map((kind) => [kind, lists(kind) + 4]));
  await until(() => kinds.every((kind) => lists(kind) >= (enough.get(kind) ?? 0)), 20_000);
}

/** A run id of its own for each number: 24 hex digits that end in it. */
export function runId(number: number): string {
  return `6${number.toString(16).padStart(23, '0')}`;
}
