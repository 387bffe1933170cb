/** Owns the Domino stand-in: the realm's keys and the two calls of Domino's API that the service makes, over HTTP. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { type Clock, systemClock } from '../../src/clock.ts';
import { createRealm, type TokenOverrides } from './realm.ts';
import { readBody, startServer } from './server.ts';

export interface DominoUser {
  /** Domino's `canonicalId`, 24 hex digits: what pods are labelled with. Not the token's `sub`. */
  readonly id: string;
  readonly name: string;
  readonly admin: boolean;
  readonly orgs: readonly string[];
  readonly apiKey: string;
  /** The token's `sub`, Keycloak's own id of the user. */
  readonly subject: string;
}

/** What goes wrong, and where: `keys` is the realm's key set, `api` the rest. */
export interface DominoKnobs {
  scope: 'all' | 'api' | 'keys';
  latencyMs: number;
  /** Connections are cut before an answer. */
  down: boolean;
  /** Answered instead of 200; 0 is off. */
  failStatus: number;
  /** Requests are taken and never answered. */
  hang: boolean;
  /** HTML with status 200, as a proxy's login page is. */
  garbage: boolean;
  /** Bodies answered in place of the right ones, keyed by path. */
  bodies: Record<string, unknown>;
}

export interface DominoStandIn {
  readonly url: string;
  readonly issuer: string;
  readonly jwksUrl: string;
  readonly knobs: DominoKnobs;
  /** `GET /v4/auth/principal`, oldest first; the last 10,000. */
  readonly calls: string[];
  /** How many calls so far had `text` in their line. */
  callsOf(text: string): number;
  /** Adds a user, or replaces the one of that name: how someone joins or leaves an organization. */
  addUser(user: { name: string; id?: string; admin?: boolean; orgs?: readonly string[]; apiKey?: string }): DominoUser;
  /** @throws when there is no such user. */
  user(name: string): DominoUser;
  token(name: string, overrides?: TokenOverrides): string;
  rotateKeys(options?: { keepOld?: boolean }): void;
  close(): Promise<void>;
}

const certsPath = '/auth/realms/DominoRealm/protocol/openid-connect/certs';
const digest = (text: string) => createHash('sha256').update(text).digest('hex');

const quiet = (): DominoKnobs => {
  return { scope: 'all', latencyMs: 0, down: false, failStatus: 0, hang: false, garbage: false, bodies: {} };
};

/**
 * Starts the stand-in on loopback. Its controls are also served over HTTP, for other processes: `POST /__stack/knobs`,
 * `POST /__stack/users`, `GET /__stack/calls`, `GET /__stack/token?user=alice&seconds=300`.
 */
export async function startDomino(
  options: { port?: number; clock?: Clock; issuer?: string } = {},
): Promise<DominoStandIn> {
  const clock = options.clock ?? systemClock;
  const realm = createRealm(options.issuer ?? 'https://domino.example.com/auth/realms/DominoRealm', clock);
  const users = new Map<string, DominoUser>();
  const calls: string[] = [];
  const counts = new Map<string, number>();
  const knobs = quiet();

  const server = await startServer(async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '/', 'http://stand-in');
    if (pathname.startsWith('/__stack/')) {
      await control(pathname, searchParams, request, response);
      return;
    }
    const line = `${request.method} ${pathname}`;
    calls.push(line);
    if (calls.length > 10_000) calls.shift();
    counts.set(line, (counts.get(line) ?? 0) + 1);
    const inScope = knobs.scope === 'all' || (knobs.scope === 'keys') === (pathname === certsPath);
    if (inScope) {
      if (knobs.latencyMs > 0) await delay(knobs.latencyMs);
      if (knobs.hang) return;
      if (knobs.down) {
        request.socket.destroy();
        return;
      }
      if (knobs.garbage) {
        response.end('<!doctype html><title>Sign in</title>');
        return;
      }
    }
    const failing = inScope && knobs.failStatus > 0;
    const [status, body] = failing ? [knobs.failStatus, { message: 'told to fail' }] : answer(pathname, request);
    send(response, status, body);
  }, options.port);

  function whoIs({ headers }: IncomingMessage): DominoUser | undefined {
    const token = /^bearer (\S+)$/i.exec(headers.authorization ?? '')?.[1];
    const claims = token === undefined ? undefined : realm.verify(token);
    const key = headers['x-domino-api-key'];
    return [...users.values()].find((user) => {
      return token === undefined ? user.apiKey === key : user.subject === claims?.sub;
    });
  }

  function answer(pathname: string, request: IncomingMessage): [status: number, body: unknown] {
    const given = knobs.bodies[pathname];
    if (given !== undefined) return [200, given];
    if (pathname === certsPath) return [200, realm.keySet()];
    const user = whoIs(request);
    if (pathname === '/v4/auth/principal') {
      // Domino answers a bad credential with 200 and an anonymous principal.
      return [200, user ? principalOf(user) : { isAnonymous: true, isAdmin: false, allowedSystemOperations: [] }];
    }
    if (pathname === '/v4/organizations/self') {
      return user ? [200, user.orgs.map((name) => organizationOf(name, user))] : [401, { message: 'Unauthorized' }];
    }
    return [404, { message: `no stand-in for ${pathname}` }];
  }

  async function control(
    pathname: string,
    query: URLSearchParams,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const body = request.method === 'POST' ? JSON.parse((await readBody(request)) || '{}') : undefined;
    const user = users.get(query.get('user') ?? '');
    if (body && pathname === '/__stack/knobs') send(response, 200, Object.assign(knobs, body));
    else if (body && pathname === '/__stack/users') send(response, 201, standIn.addUser(body));
    else if (pathname === '/__stack/calls') send(response, 200, { counts: Object.fromEntries(counts), calls });
    else if (pathname === '/__stack/token' && user) {
      const exp = Math.floor(clock.now() / 1000) + Number(query.get('seconds') ?? 300);
      response.end(realm.token(user, { exp }));
    } else send(response, 404, { message: 'no such user or control' });
  }

  const standIn: DominoStandIn = {
    url: server.url,
    issuer: realm.issuer,
    jwksUrl: `${server.url}${certsPath}`,
    knobs,
    calls,
    callsOf: (text) => [...counts].reduce((sum, [line, count]) => sum + (line.includes(text) ? count : 0), 0),
    addUser({ name, id, admin = false, orgs = [], apiKey }) {
      const hash = digest(`user ${name}`);
      const subject = [hash.slice(0, 8), hash.slice(8, 12), hash.slice(12, 16), hash.slice(16, 20), hash.slice(20, 32)];
      const key = apiKey ?? digest(`key ${name}`);
      const user = {
        id: id ?? digest(`id ${name}`).slice(0, 24),
        name,
        admin,
        orgs,
        apiKey: key,
        subject: subject.join('-'),
      };
      users.set(name, user);
      return user;
    },
    user(name) {
      const user = users.get(name);
      if (!user) throw new Error(`the stand-in has no user ${name}`);
      return user;
    },
    token: (name, overrides) => realm.token(standIn.user(name), overrides),
    rotateKeys: realm.rotateKeys,
    close: server.close,
  };
  return standIn;
}

function principalOf(user: DominoUser) {
  return {
    isAnonymous: false,
    isAdmin: user.admin,
    canonicalId: user.id,
    canonicalName: user.name,
    mode: 'Bearer',
    allowedSystemOperations: user.admin ? ['ManageUsers'] : [],
  };
}

function organizationOf(name: string, user: DominoUser) {
  return {
    id: digest(`org ${name}`).slice(0, 24),
    name,
    organizationUserId: digest(`org user ${name}`).slice(0, 24),
    members: [{ id: user.id, role: user.admin ? 'Admin' : 'Member' }],
  };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body));
}
