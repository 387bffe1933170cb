/** Owns a whole world for a test: the Domino, Kubernetes and AWS stand-ins, and replicas of the service that use them. */
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
  /** The clock that every replica uses. */
  clock: ShiftedClock;
  domino: DominoStandIn;
  kubernetes: KubernetesStandIn;
  aws: AwsStandIn;
  issuer: ClusterIssuer;
  /** The settings that every replica gets, as environment variables. */
  environment: Record<string, string>;
  /** Starts a replica; resolves when it is ready. `replicas` has it as soon as it listens. */
  startReplica(settings?: Record<string, string>): Promise<Replica>;
  replicas: readonly Replica[];
  /** Starts a run of a Domino user: a service account and a running pod. */
  startRun(run: string, user: string, options?: RunOptions): { account: string; pod: string };
  endRun(run: string): void;
  /** Creates a target role, and a proxy role in the cluster's account with a trust policy as Terraform makes it. */
  addRolePair(name: string, proxies?: readonly string[]): { target: string; proxies: string[] };
  /** Maps an organization to these pairs of roles, as an administrator through a replica. */
  map(replica: Replica, org: string, ...pairs: { target: string; proxies: string[] }[]): Promise<void>;
  /** The subjects in a proxy role's trust policy. */
  subjects(proxy: string): string[];
  /** Whether STS gives the proxy role to a pod of the service account. */
  canAssume(account: string, proxyArn: string): Promise<boolean>;
  stop(): Promise<void>;
}

export interface WorldOptions {
  /** The permissions in Kubernetes, and the replicas' user there. */
  access?: { rbac: AccessCheck; user: string };
  /** The transport between the replicas and Kubernetes. */
  transport?: Transport;
  /** Whether the realm's issuer is the stand-in's own address, so that a browser can log in. */
  isRealmReachable?: boolean;
  /** The random numbers (0 to 1, as from Math.random) that decide which calls to AWS fail. */
  random?: () => number;
  /** The OIDC issuer of the cluster, without `https://`; one of EKS's form unless given. */
  issuerName?: string;
}

export async function startWorld(settings: Record<string, string> = {}, options: WorldOptions = {}): Promise<World> {
  const { access, random = Math.random, transport = defaultTransport(), isRealmReachable = false } = options;
  const issuer = await createIssuer(options.issuerName === undefined ? {} : { issuer: options.issuerName });
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

/** Makes lists of all kinds wrongly empty; resolves when each cache of these kinds has accepted that, at its fourth list. */
export async function emptyLists({ kubernetes }: World, kinds: readonly string[]): Promise<void> {
  kubernetes.knobs.emptyLists = true;
  kubernetes.expire();
  kubernetes.cutWatches();
  const lists = (kind: string) => kubernetes.calls.get(`list ${kind}`) ?? 0;
  const enough = new Map(kinds.map((kind) => [kind, lists(kind) + 4]));
  await until(() => kinds.every((kind) => lists(kind) >= (enough.get(kind) ?? 0)), 20_000);
}

/** A distinct run id for each number: 24 hex digits that end in it. */
export function runId(number: number): string {
  return `6${number.toString(16).padStart(23, '0')}`;
}
