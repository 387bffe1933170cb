/** Owns the stack as a process: starts the Domino, Kubernetes and AWS stand-ins, prints their addresses, and takes orders over HTTP. */
import { clusterAccount, type RunOptions, startWorld } from '../support/world.ts';
import type { PodTokenOptions } from './issuer.ts';
import { createPodIdentityOrders } from './pod-identity-orders.ts';
import { readBody, startServer } from './server.ts';
import { createWorkloadOrders } from './workload-orders.ts';

/** The one line of JSON on stdout. */
export interface StackAddresses {
  readonly dominoUrl: string;
  readonly kubernetesUrl: string;
  readonly awsUrl: string;
  /** `POST <url>/<order>` with a JSON body, for actions that have no call of their own: see `orders`. */
  readonly controlUrl: string;
  readonly kubeconfig: string;
  /** A replica's settings, and the variables that point its AWS client at the stand-in. */
  readonly environment: Readonly<Record<string, string>>;
}

// The order that `npm run dev` and the console's tests need.
const world = await startWorld({}, { isRealmReachable: true });

/** The orders of other processes by name; each takes one JSON value. */
export const orders = {
  'add-user': (user: Parameters<typeof world.domino.addUser>[0]) => world.domino.addUser(user),
  'add-role-pair': ({ name, proxies }: { name: string; proxies?: string[] }) => world.addRolePair(name, proxies),
  'start-runs': ({ user, runs, options }: { user: string; runs: string[]; options?: RunOptions }) =>
    runs.map((run) => world.startRun(run, user, options)),
  'end-runs': (runs: string[]) => {
    for (const run of runs) world.endRun(run);
    return {};
  },
  'put-objects': ({ kind, objects }: { kind: string; objects: object[] }) => {
    world.kubernetes.putMany(kind, objects);
    return {};
  },
  'remove-objects': ({ kind, namespace, names }: { kind: string; namespace: string; names: string[] }) =>
    names.map((name) => world.kubernetes.remove(kind, namespace, name)),
  /** Creates the role or replaces the one of that name; every reader sees it at once. */
  'add-role': (role: Parameters<typeof world.aws.addRole>[0]) => world.aws.addRole(role),
  /** The audiences of role tokens that the cluster's OIDC provider lists, beside the usual one. */
  'list-audiences': (roles: string[]) => {
    const clientIds = ['sts.amazonaws.com', ...roles.map((name) => `irsa/${name}`)];
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds });
    return {};
  },
  'set-trust': ({ account, name, document }: { account: string; name: string; document: object }) => {
    world.aws.setTrust(account, name, document);
    return {};
  },
  /** The proxy roles whose newest trust policies admit the service account. */
  trusting: ({ account, proxies }: { account: string; proxies: string[] }) =>
    proxies.filter((proxy) => world.subjects(proxy).includes(`*:domino-compute:${account}`)),
  /** STS's answer to a token of the service account. */
  'can-assume': ({ account, role }: { account: string; role: string }) => world.canAssume(account, role),
  subjects: (proxy: string) => world.subjects(proxy),
  /** The proxy roles' trust policies, the newest or all, with their writers and times. */
  'trust-history': ({ proxies, newest = false }: { proxies: string[]; newest?: boolean }) =>
    proxies.map((proxy) => {
      const { arn, history } = world.aws.role(clusterAccount, proxy);
      const versions = newest ? history.slice(-1) : history;
      return { arn, history: versions.map(({ at, by, document }) => ({ at, by, document })) };
    }),
  writes: ({ inFlight = false }: { inFlight?: boolean }) =>
    world.aws.writes
      .filter(({ endedAt }) => !inFlight || endedAt === undefined)
      .map(({ document: _text, ...write }) => write),
  'rotate-keys': (options: { keepOld?: boolean }) => {
    world.domino.rotateKeys(options);
    return {};
  },
  /** The holder's identity in the lease; '' where there is none. */
  'lease-holder': () =>
    world.kubernetes.get<{ spec?: { holderIdentity?: string } }>('leases', 'domino-field', 'irsa-writer')?.spec
      ?.holderIdentity ?? '',
  'stored-mappings': () =>
    world.kubernetes.get<{ data?: Record<string, string> }>('configmaps', 'domino-field', 'domino-org-iamrole-mapping')
      ?.data ?? {},
  'pod-token': (options: PodTokenOptions) => world.issuer.podToken(options),
  ...createWorkloadOrders(world),
  ...createPodIdentityOrders(world),
};

export type Orders = typeof orders;

const control = await startServer(async (request, response) => {
  const name = (request.url ?? '').slice(1);
  const send = (status: number, body: unknown) =>
    void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  if (request.method !== 'POST' || !Object.hasOwn(orders, name)) return send(404, { error: `no order ${name}` });
  const order = orders[name as keyof Orders] as (body: unknown) => unknown;
  try {
    send(200, await order(JSON.parse((await readBody(request)) || '{}')));
  } catch (error) {
    send(400, { error: String(error) });
  }
});

const { domino, kubernetes, aws, environment } = world;
const addresses: StackAddresses = {
  dominoUrl: domino.url,
  kubernetesUrl: kubernetes.url,
  awsUrl: aws.url,
  controlUrl: control.url,
  kubeconfig: kubernetes.kubeconfig(),
  environment: { ...environment, ...aws.environment(), ...aws.credentials },
};
process.stdout.write(`${JSON.stringify(addresses)}\n`);

// The parent process holds the other end of stdin: when the parent ends in any way, the stack ends too.
process.stdin.resume().on('end', () => process.exit(0));
process.on('SIGTERM', () => process.exit(0));
process.on('SIGINT', () => process.exit(0));
