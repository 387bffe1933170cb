/** Owns one replica of the service in this process: starts it with settings and a kubeconfig, sends requests, and stops it. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import supertest, { type Response } from 'supertest';
import type { Clock } from '../../src/lib/clock.ts';
import { loadConfig } from '../../src/lib/config.ts';
import { createLog } from '../../src/lib/log.ts';
import { createMetrics, type Metrics } from '../../src/lib/metrics.ts';
import { type Service, startService } from '../../src/service.ts';
import type { DominoStandIn } from '../stack/domino.ts';
import { assertConforms } from './contract.ts';

export interface Replica {
  service: Service;
  metrics: Metrics;
  server: Server;
  url: string;
  /** Every line of its log, parsed. */
  log: Record<string, unknown>[];
  /** Sends one request and checks the answer against the contract. `as` names the user whose token it carries. */
  call(method: Method, path: string, options?: CallOptions): Promise<Response>;
  stop(): Promise<void>;
}

type Method = 'GET' | 'POST' | 'DELETE' | 'PUT';

export interface CallOptions {
  as?: string;
  headers?: Record<string, string>;
  body?: unknown;
}

export interface ReplicaOptions {
  /** Its settings, as environment variables. */
  environment: Record<string, string>;
  kubeconfig: string;
  clock: Clock;
  /** Issues a bearer token of a Domino user. */
  token: (user: string) => string;
  /** Called with the replica as soon as it listens. */
  listens: (replica: Replica) => void;
}

/** The settings that every replica gets. @param issuer the cluster's issuer, without `https://`. */
export function settingsFor(issuer: string, domino: DominoStandIn): Record<string, string> {
  return {
    OIDC_PROVIDER: issuer,
    DOMINO_ISSUER: domino.issuer,
    DOMINO_JWKS_URL: domino.jwksUrl,
    DOMINO_USER_HOST: domino.url,
    AWS_REGION: 'us-west-2',
    SSL_OFF: 'true',
    HOST: '127.0.0.1',
    RATE_LIMIT_PER_MINUTE: '0',
    LEASE_SECONDS: '3',
  };
}

/** Starts a replica; resolves when it is ready. */
export async function startReplica({ environment, kubeconfig, clock, token, listens }: ReplicaOptions) {
  const kubeConfig = new KubeConfig();
  kubeConfig.loadFromString(kubeconfig);
  const lines: Record<string, unknown>[] = [];
  const log = createLog('debug', { write: (line: string) => void lines.push(JSON.parse(line)) });
  const metrics = createMetrics();
  const service = startService({ config: loadConfig(environment), kubeConfig, clock, log, metrics });
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
      const bearer = as === undefined ? {} : { Authorization: `Bearer ${token(as)}` };
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
  listens(replica);
  await service.ready;
  return replica;
}

/** Maps an organization to these pairs of roles, as an administrator. */
export async function mapThrough(replica: Replica, org: string, ...pairs: { target: string; proxies: string[] }[]) {
  const data = pairs.flatMap(({ target, proxies }) =>
    proxies.map((proxy) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy })),
  );
  const body = { domino_org: org, role_data: data };
  const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
  if (answer.status !== 200) throw new Error(`the mapping was refused: ${answer.text}`);
}
