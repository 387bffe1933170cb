/** Owns the AWS stand-in: IAM, STS and EKS over plain HTTP, with real trust-policy semantics and knobs for faults. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { JSONWebKeySet } from 'jose';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { restExchange } from './aws-eks-exchange.ts';
import { createEksHelpers, type EksHelpers } from './aws-eks-helpers.ts';
import { restCall } from './aws-eks-rest.ts';
import { createEksStore } from './aws-eks-store.ts';
import type { EksWrite } from './aws-eks-writes.ts';
import { answerCall } from './aws-exchange.ts';
import { createKeyRing, type Key } from './aws-keys.ts';
import { type AwsKnobs, createFaults, defaultKnobs, mergeKnobs } from './aws-knobs.ts';
import { queryExchange } from './aws-query.ts';
import { createRoleStore, type NewRole, type PolicyVersion, SETUP } from './aws-roles.ts';
import type { OidcProvider } from './aws-sts.ts';
import type { AwsWorld } from './aws-world.ts';
import type { TrustWrite } from './aws-writes.ts';
import { readBody, startServer } from './server.ts';

export type { AssociationView, ClusterOptions } from './aws-eks-helpers.ts';
export type { AssociationChange, NewAssociation } from './aws-eks-store.ts';
export type { EksWrite } from './aws-eks-writes.ts';
export type { AwsKnobs } from './aws-knobs.ts';
export type { TrustWrite } from './aws-writes.ts';

export interface AwsOptions {
  port?: number;
  clock?: Clock;
  /** The cluster's account, 111111111111 by default. */
  account?: string;
  partition?: string;
  /** Random numbers for `throttleRate` and `failRate`. */
  random?: () => number;
}

export interface RoleView {
  readonly account: string;
  readonly name: string;
  readonly arn: string;
  /** The newest trust policy, even if readers do not see it yet. */
  readonly document: Record<string, unknown>;
  readonly text: string;
  readonly history: readonly PolicyVersion[];
}

export interface AwsStandIn extends EksHelpers {
  readonly url: string;
  readonly account: string;
  /** Tests may change them at any time; the next call sees the change. */
  readonly knobs: AwsKnobs;
  /** Calls by action, refused ones too. */
  readonly calls: Record<string, number>;
  /** Every UpdateAssumeRolePolicy that arrived, in order. */
  readonly writes: TrustWrite[];
  /** Every Create-, Update- and DeletePodIdentityAssociation that arrived, in order. */
  readonly eksWrites: EksWrite[];
  /** The service's own credentials, a session of the role `irsa-svc` in the cluster's account. */
  readonly credentials: Record<string, string>;
  addRole(role: NewRole): RoleView;
  /** Throws when there is no such role. */
  role(account: string, name: string): RoleView;
  /** Edits the document as another tool: without checks of grammar and quota, and without an entry in `writes`. */
  setTrust(account: string, name: string, document: string | object): void;
  /** Deletes the role as another tool; throws when there is no such role. */
  removeRole(account: string, name: string): void;
  /** Registers an OIDC provider in the given accounts (the cluster's by default); a second call replaces its keys. */
  trustIssuer(
    issuer: string,
    jwks: JSONWebKeySet,
    options?: { accounts?: readonly string[]; clientIds?: readonly string[] },
  ): void;
  /** Credentials of an IAM user as environment variables, to act in another account. */
  userCredentials(account: string, user?: string): Record<string, string>;
  /** Variables that point every AWS client at this stand-in, without credentials. */
  environment(): Record<string, string>;
  resetCalls(): void;
  close(): Promise<void>;
}

export async function startAws(options: AwsOptions = {}): Promise<AwsStandIn> {
  const { clock = systemClock, account = '111111111111', partition = 'aws', random = Math.random } = options;
  const knobs = defaultKnobs();
  const faults = createFaults(knobs, clock, random);
  const roles = createRoleStore(clock, partition, account);
  const keys = createKeyRing(clock);
  const providers: OidcProvider[] = [];
  const calls: Record<string, number> = {};
  const writes: TrustWrite[] = [];
  const eks = createEksStore(clock, partition, REGION);
  const eksHelpers = createEksHelpers(eks, account, knobs);
  const eksWrites: EksWrite[] = [];
  const world: AwsWorld = {
    clock,
    knobs,
    faults,
    roles,
    keys,
    providers,
    partition,
    eks,
    tokens: new Map(),
    writes,
    eksWrites,
  };

  const service = roles.add({ name: 'irsa-svc', trust: SERVICE_TRUST }, SETUP);
  const serviceKey = keys.addLasting({
    account,
    arn: `arn:${partition}:sts::${account}:assumed-role/irsa-svc/irsa-svc`,
    userId: `${service.id}:irsa-svc`,
    roleArn: service.arn,
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = await readBody(request);
    const rest = restCall(request.method, request.url);
    const exchange = rest
      ? restExchange(world, request, rest, text)
      : queryExchange(world, request, new URLSearchParams(text));
    calls[exchange.action] = (calls[exchange.action] ?? 0) + 1;
    await answerCall({ knobs, clock }, request, response, exchange);
  }

  /** The URL of the knobs for tests and people in other processes; it works while the stand-in is `down`. */
  async function control(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, , noun = '', ...rest] = (request.url ?? '').split('/').map(decodeURIComponent);
    const send = (status: number, body: unknown) =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    const body = await readBody(request);
    try {
      if (request.method === 'POST' && noun === 'knobs') mergeKnobs(knobs, JSON.parse(body));
      else if (request.method === 'POST' && noun === 'reset-calls') standIn.resetCalls();
      else if (request.method !== 'GET') return send(404, { error: 'not found' });
      if (noun === 'knobs') return send(200, knobs);
      if (noun === 'calls' || noun === 'reset-calls') return send(200, calls);
      if (noun === 'writes') return send(200, writes);
      if (noun === 'eks-writes') return send(200, eksWrites);
      if (noun === 'associations') return send(200, standIn.associations(rest[0]));
      if (noun === 'roles' && rest.length === 2) return send(200, standIn.role(rest[0] ?? '', rest[1] ?? ''));
      return send(404, { error: 'not found' });
    } catch (error) {
      return send(noun === 'roles' || noun === 'associations' ? 404 : 400, { error: String(error) });
    }
  }

  const server = await startServer(async (request, response) => {
    if (request.url?.startsWith('/__stack/')) await control(request, response);
    else if (knobs.down) request.socket.destroy();
    else await answer(request, response);
  }, options.port);

  const standIn: AwsStandIn = {
    ...eksHelpers,
    url: server.url,
    account,
    knobs,
    calls,
    writes,
    eksWrites,
    credentials: environmentOf(serviceKey),
    addRole: (role) => {
      const added = roles.add(role, SETUP);
      return standIn.role(added.account, added.name);
    },
    role(ofAccount, name) {
      const role = roles.find(ofAccount, name);
      const newest = role?.history.at(-1);
      if (!role || !newest) throw new Error(`no role ${name} in account ${ofAccount}`);
      const { document, text } = newest;
      return { account: ofAccount, name, arn: role.arn, document, text, history: role.history };
    },
    setTrust(ofAccount, name, document) {
      const role = roles.find(ofAccount, name);
      if (!role) throw new Error(`no role ${name} in account ${ofAccount}`);
      roles.write(role, document, 'outsider');
    },
    removeRole(ofAccount, name) {
      const role = roles.find(ofAccount, name);
      if (!role) throw new Error(`no role ${name} in account ${ofAccount}`);
      roles.remove(role);
    },
    trustIssuer(issuer, jwks, { accounts = [account], clientIds = ['sts.amazonaws.com'] } = {}) {
      const others = providers.filter((each) => each.issuer !== issuer || !accounts.includes(each.account));
      providers.splice(
        0,
        providers.length,
        ...others,
        ...accounts.map((each) => ({ account: each, issuer, jwks, clientIds })),
      );
    },
    userCredentials: (ofAccount, user = 'admin') =>
      environmentOf(
        keys.addLasting({
          account: ofAccount,
          arn: `arn:${partition}:iam::${ofAccount}:user/${user}`,
          userId: `AIDASTACK${user.toUpperCase()}`,
        }),
      ),
    environment: () => ({
      AWS_ENDPOINT_URL: server.url,
      AWS_ENDPOINT_URL_IAM: server.url,
      AWS_ENDPOINT_URL_STS: server.url,
      AWS_ENDPOINT_URL_EKS: server.url,
      AWS_ENDPOINT_URL_EKS_AUTH: server.url,
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_REGION: REGION,
      AWS_DEFAULT_REGION: REGION,
    }),
    resetCalls() {
      for (const action of Object.keys(calls)) delete calls[action];
    },
    close: server.close,
  };
  return standIn;
}

const REGION = 'us-west-2';

const SERVICE_TRUST = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action: 'sts:AssumeRole' }],
};

function environmentOf(key: Key): Record<string, string> {
  return {
    AWS_ACCESS_KEY_ID: key.accessKeyId,
    AWS_SECRET_ACCESS_KEY: key.secretAccessKey,
    ...(key.sessionToken === undefined ? {} : { AWS_SESSION_TOKEN: key.sessionToken }),
  };
}
