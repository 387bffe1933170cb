/** Owns a whole world for a test: Domino, Kubernetes and AWS stand-ins, and replicas of the service against them. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { AssumeRoleWithWebIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { KubeConfig } from '@kubernetes/client-node';
import supertest, { type Response } from 'supertest';
import { type Config, loadConfig } from '../../src/config.ts';
import { createLog } from '../../src/log.ts';
import { createMetrics, type Metrics } from '../../src/metrics.ts';
import { type Service, startService } from '../../src/service.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { type DominoStandIn, startDomino } from '../stack/domino.ts';
import { type ClusterIssuer, createIssuer } from '../stack/issuer.ts';
import { type KubernetesStandIn, startKubernetes } from '../stack/kubernetes.ts';
import type { AccessCheck } from '../stack/kubernetes-access.ts';
import { dominoPod, dominoServiceAccount } from '../stack/pods.ts';
import { ShiftedClock } from './clock.ts';
import { assertConforms } from './contract.ts';

export const clusterAccount = '111111111111';
export const assetAccount = '222222222222';

export interface Replica {
  service: Service;
  metrics: Metrics;
  server: Server;
  url: string;
  /** Every line that it logged, parsed. */
  log: Record<string, unknown>[];
  /** One call, its answer checked against the contract. `as` names the user whose token it carries. */
  call(method: Method, path: string, options?: CallOptions): Promise<Response>;
  stop(): Promise<void>;
}

type Method = 'GET' | 'POST' | 'DELETE' | 'PUT';

export interface CallOptions {
  as?: string;
  headers?: Record<string, string>;
  body?: unknown;
}

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
  /** Decides which calls of AWS a share of failures meets; 0 to 1, as Math.random. */
  random?: () => number;
}

export async function startWorld(settings: Record<string, string> = {}, options: WorldOptions = {}): Promise<World> {
  const { access, random = Math.random } = options;
  const [domino, kubernetes, aws, issuer] = await Promise.all([
    startDomino(),
    startKubernetes(access ? { rbac: access.rbac } : {}),
    startAws({ random }),
    createIssuer(),
  ]);
  aws.trustIssuer(issuer.issuer, issuer.jwks);
  domino.addUser({ name: 'admin', admin: true, orgs: [] });
  const environment: Record<string, string> = {
    OIDC_PROVIDER: issuer.issuer,
    DOMINO_ISSUER: domino.issuer,
    DOMINO_JWKS_URL: domino.jwksUrl,
    DOMINO_USER_HOST: domino.url,
    AWS_REGION: 'us-west-2',
    SSL_OFF: 'true',
    HOST: '127.0.0.1',
    RATE_LIMIT_PER_MINUTE: '0',
    LEASE_SECONDS: '3',
    ...settings,
  };
  const awsVariables = { ...aws.environment(), ...aws.credentials };
  const before = Object.fromEntries(Object.keys(awsVariables).map((name) => [name, process.env[name]]));
  Object.assign(process.env, awsVariables);
  const clock = new ShiftedClock();
  const replicas: Replica[] = [];
  const runs = new Map<string, { pod: string; account: string }[]>();

  async function startReplica(more: Record<string, string> = {}): Promise<Replica> {
    const config: Config = loadConfig({ ...environment, ...more });
    const kubeConfig = new KubeConfig();
    kubeConfig.loadFromString(kubernetes.kubeconfig(access?.user));
    const lines: Record<string, unknown>[] = [];
    const log = createLog('debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
    const metrics = createMetrics();
    const service = startService({ config, kubeConfig, clock, log, metrics });
    const server = service.app.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    let stopped = false;
    const replica: Replica = {
      service,
      metrics,
      server,
      url,
      log: lines,
      call: async (method, path, { as, headers = {}, body } = {}) => {
        const bearer = as === undefined ? {} : { Authorization: `Bearer ${domino.token(as)}` };
        const lower = method.toLowerCase() as Lowercase<Method>;
        const sent = supertest(url)
          [lower](path)
          .set({ ...bearer, ...headers });
        const response = await (body === undefined ? sent : sent.send(body as object));
        assertConforms(method, path, response);
        return response;
      },
      stop: async () => {
        if (stopped) return;
        stopped = true;
        await service.stop();
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
    replicas.push(replica);
    await service.ready;
    return replica;
  }

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
    addRolePair: (name, proxies = [name]) => {
      const federated = `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer.issuer}`;
      const trust = {
        Version: '2012-10-17',
        Statement: [
          {
            Effect: 'Allow',
            Principal: { Federated: federated },
            Action: 'sts:AssumeRoleWithWebIdentity',
            Condition: {
              StringLike: { [`${issuer.issuer}:aud`]: 'sts.amazonaws.com', [`${issuer.issuer}:sub`]: '' },
            },
          },
        ],
      };
      const arns = proxies.map((proxy) => aws.addRole({ account: clusterAccount, name: proxy, trust }).arn);
      const target = aws.addRole({
        account: assetAccount,
        name,
        trust: {
          Version: '2012-10-17',
          Statement: [
            { Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${clusterAccount}:root` }, Action: 'sts:AssumeRole' },
          ],
        },
      });
      return { target: target.arn, proxies: arns };
    },
    map: async (replica, org, ...pairs) => {
      const data = pairs.flatMap(({ target, proxies }) =>
        proxies.map((proxy) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy })),
      );
      const body = { domino_org: org, role_data: data };
      const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
      if (answer.status !== 200) throw new Error(`the mapping was refused: ${answer.text}`);
    },
    subjects: (proxy) => {
      const document = aws.role(clusterAccount, proxy).document as {
        Statement: { Condition?: Record<string, Record<string, string | string[]>> }[];
      };
      return document.Statement.flatMap((statement) =>
        Object.values(statement.Condition ?? {}).flatMap((keys) => keys[`${issuer.issuer}:sub`] ?? []),
      );
    },
    canAssume: async (account, proxyArn) => {
      const sts = new STSClient({ region: 'us-west-2', maxAttempts: 1 });
      const token = await issuer.podToken({ serviceAccount: account });
      const input = { RoleArn: proxyArn, RoleSessionName: 'test', WebIdentityToken: token };
      try {
        await sts.send(new AssumeRoleWithWebIdentityCommand(input));
        return true;
      } catch (error) {
        if ((error as Error).name.startsWith('AccessDenied')) return false;
        throw error;
      } finally {
        sts.destroy();
      }
    },
    stop: async () => {
      await Promise.all(replicas.map((replica) => replica.stop()));
      await Promise.all([domino.close(), kubernetes.close(), aws.close()]);
      for (const [name, value] of Object.entries(before)) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    },
  };
}

/** A run id: 24 hex digits that end in a number. */
export function runId(number: number): string {
  return number.toString(16).padStart(24, '6');
}
