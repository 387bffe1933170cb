/** Owns the AWS stand-in: IAM and STS over plain HTTP, with real trust-policy semantics and knobs for what goes wrong. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { JSONWebKeySet } from 'jose';
import { type Clock, systemClock } from '../../src/clock.ts';
import { IAM_ACTIONS } from './aws-iam.ts';
import { createKeyRing, type Key, type KeyRing } from './aws-keys.ts';
import { type AwsKnobs, byAction, createFaults, defaultKnobs, mergeKnobs, takeNext } from './aws-knobs.ts';
import { createRoleStore, type NewRole, type PolicyVersion, SETUP } from './aws-roles.ts';
import { type OidcProvider, STS_ACTIONS } from './aws-sts.ts';
import { beginWrite, callerName, type TrustWrite } from './aws-writes.ts';
import { AwsError, errorXml, resultXml, type XmlValue } from './aws-xml.ts';
import { readBody, startServer } from './server.ts';

export type { AwsKnobs } from './aws-knobs.ts';
export type { TrustWrite } from './aws-writes.ts';

export interface AwsOptions {
  port?: number;
  clock?: Clock;
  /** The cluster's account, 111111111111 by default. */
  account?: string;
  partition?: string;
  /** For `throttleRate` and `failRate`. */
  random?: () => number;
}

export interface RoleView {
  readonly account: string;
  readonly name: string;
  readonly arn: string;
  /** The newest trust policy, whatever readers see of it yet. */
  readonly document: Record<string, unknown>;
  readonly text: string;
  readonly history: readonly PolicyVersion[];
}

export interface AwsStandIn {
  readonly url: string;
  readonly account: string;
  /** Change them at any time; the next call sees it. */
  readonly knobs: AwsKnobs;
  /** Calls by action, refused ones too. */
  readonly calls: Record<string, number>;
  /** Every UpdateAssumeRolePolicy that arrived, in order. */
  readonly writes: TrustWrite[];
  /** The service's own credentials, a session of the role `irsa-svc` in the cluster's account. */
  readonly credentials: Record<string, string>;
  addRole(role: NewRole): RoleView;
  /** Throws when there is no such role. */
  role(account: string, name: string): RoleView;
  /** Someone else's edit: no grammar, no quota, and no entry in `writes`. */
  setTrust(account: string, name: string, document: string | object): void;
  /** Registers an OIDC provider in the given accounts (the cluster's by default); a second time replaces its keys. */
  trustIssuer(
    issuer: string,
    jwks: JSONWebKeySet,
    options?: { accounts?: readonly string[]; clientIds?: readonly string[] },
  ): void;
  /** Environment-style credentials of an IAM user, to act in another account. */
  userCredentials(account: string, user?: string): Record<string, string>;
  /** Variables that point every AWS client at this stand-in; credentials are not among them. */
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
  const world = { clock, knobs, roles, keys, providers, partition };

  const service = roles.add({ name: 'irsa-svc', trust: SERVICE_TRUST }, SETUP);
  const serviceKey = keys.addLasting({
    account,
    arn: `arn:${partition}:sts::${account}:assumed-role/irsa-svc/irsa-svc`,
    userId: `${service.id}:irsa-svc`,
    roleArn: service.arn,
  });

  async function run(action: string, request: IncomingMessage, params: URLSearchParams): Promise<XmlValue | undefined> {
    const { headers } = request;
    const sts = STS_ACTIONS[action];
    if (sts) {
      faults.check(action, '');
      return await sts(world, { headers, params });
    }
    const iam = IAM_ACTIONS[action];
    if (!iam) throw new AwsError('InvalidAction', `Could not find operation ${action}`);
    const caller = keys.authenticate(headers).principal;
    faults.check(action, caller.account);
    return iam(world, { account: caller.account, params, by: callerName(headers) });
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const params = new URLSearchParams(await readBody(request));
    const action = params.get('Action') ?? '';
    const protocol = action in STS_ACTIONS ? 'sts' : 'iam';
    calls[action] = (calls[action] ?? 0) + 1;
    const write =
      action === 'UpdateAssumeRolePolicy'
        ? beginWrite(writes, clock, request.headers, params, accountOf(keys, request))
        : undefined;
    // Before the answer leaves, so that a client's next write never looks like an overlap.
    const finish = (outcome: string) => write && Object.assign(write, { endedAt: clock.now(), outcome });

    if (takeNext(knobs.hangNext, action)) {
      await once(response, 'close');
      finish('hung');
      return;
    }
    const half = (byAction(knobs.latencyMs, action) ?? 0) / 2;
    if (half > 0) await clock.sleep(half);
    const requestId = randomUUID();
    let status = 200;
    let outcome = 'ok';
    let xml: string;
    try {
      xml = resultXml(protocol, action, await run(action, request, params), requestId);
    } catch (error) {
      const known = error instanceof AwsError ? error : new AwsError('InternalFailure', String(error));
      ({ status, code: outcome } = known);
      xml = errorXml(protocol, known, requestId);
    }
    if (half > 0) await clock.sleep(half);
    // An outage that begins while a write is under way takes the answer, not the write.
    if (knobs.down || takeNext(knobs.loseAnswerNext, action)) {
      finish(outcome === 'ok' ? 'answer-lost' : outcome);
      request.socket.destroy();
      return;
    }
    finish(outcome);
    response.writeHead(status, { 'content-type': 'text/xml', 'x-amzn-requestid': requestId }).end(xml);
  }

  /** For tests and people in other processes; it works while the stand-in is `down`. */
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
      if (noun === 'roles' && rest.length === 2) return send(200, standIn.role(rest[0] ?? '', rest[1] ?? ''));
      return send(404, { error: 'not found' });
    } catch (error) {
      return send(noun === 'roles' ? 404 : 400, { error: String(error) });
    }
  }

  const server = await startServer(async (request, response) => {
    if (request.url?.startsWith('/__stack/')) await control(request, response);
    else if (knobs.down) request.socket.destroy();
    else await answer(request, response);
  }, options.port);

  const standIn: AwsStandIn = {
    url: server.url,
    account,
    knobs,
    calls,
    writes,
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
      AWS_EC2_METADATA_DISABLED: 'true',
      AWS_REGION: 'us-west-2',
      AWS_DEFAULT_REGION: 'us-west-2',
    }),
    resetCalls() {
      for (const action of Object.keys(calls)) delete calls[action];
    },
    close: server.close,
  };
  return standIn;
}

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

function accountOf(keys: KeyRing, request: IncomingMessage): string {
  try {
    return keys.authenticate(request.headers).principal.account;
  } catch {
    return 'unknown';
  }
}
