/** Owns the Domino stand-in: the realm's keys and the two calls of Domino's API that the service makes, over HTTP. */
import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { createRealm, type TokenOverrides } from './realm.ts';
import { createRealmLogin } from './realm-login.ts';
import { readBody, startServer } from './server.ts';

export interface DominoUser {
  /** Domino's `canonicalId`, 24 hex digits: what pods are labelled with. Not the token's `sub`. */
  readonly id: string;
  readonly name: string;
  readonly admin: boolean;
  readonly orgs: readonly string[];
  /** Name -> the id of the user's organization of that name, where it differs from the usual id, such as after a re-creation. */
  readonly orgIds: Readonly<Record<string, string | null>>;
  readonly apiKey: string;
  /** The token's `sub`, Keycloak's own id of the user. */
  readonly subject: string;
}

/** Faults and their place: `keys` is the realm's key set and discovery document, `api` the rest. */
export interface DominoKnobs {
  scope: 'all' | 'api' | 'keys';
  latencyMs: number;
  /** Whether connections are closed before an answer. */
  down: boolean;
  /** The status to answer instead of 200; 0 is off. */
  failStatus: number;
  /** The value of the header of that name on such an answer. */
  location: string;
  /** Whether requests are accepted and never answered. */
  hang: boolean;
  /** Whether the answer is HTML with status 200, like a proxy's login page. */
  garbage: boolean;
  /** Path -> a body to answer in place of the right one. */
  bodies: Record<string, unknown>;
  /** Whether each refresh token works only once, which is a setting of a Keycloak realm. */
  revokeRefreshToken: boolean;
}

export interface DominoStandIn {
  readonly url: string;
  readonly issuer: string;
  readonly jwksUrl: string;
  readonly knobs: DominoKnobs;
  /** `GET /v4/auth/principal`, oldest first; the last 10,000. */
  readonly calls: string[];
  /** The number of calls so far whose line contains `text`. */
  callsOf(text: string): number;
  /** Adds a user, or replaces the user of that name, for example to join or leave an organization. */
  addUser(user: {
    name: string;
    id?: string;
    admin?: boolean;
    orgs?: readonly string[];
    orgIds?: Record<string, string | null>;
    apiKey?: string;
  }): DominoUser;
  /** @throws when there is no such user. */
  user(name: string): DominoUser;
  token(name: string, overrides?: TokenOverrides): string;
  rotateKeys(options?: { keepOld?: boolean }): void;
  close(): Promise<void>;
}

const realmPath = '/auth/realms/DominoRealm';
const discoveryPath = `${realmPath}/.well-known/openid-configuration`;
const certsPath = `${realmPath}/protocol/openid-connect/certs`;
/** The console's client: it gets a code only for the page of a service on this machine. */
export const consoleClientId = 'irsa-console';
const clients = new Map([
  [consoleClientId, ['http://127.0.0.1:*', 'https://127.0.0.1:*', 'http://localhost:*', 'https://localhost:*']],
]);
const realmPaths = [certsPath, discoveryPath];
const digest = (text: string) => createHash('sha256').update(text).digest('hex');

const quiet = (): DominoKnobs => {
  return {
    scope: 'all',
    latencyMs: 0,
    down: false,
    failStatus: 0,
    location: '',
    hang: false,
    garbage: false,
    bodies: {},
    revokeRefreshToken: true,
  };
};

/**
 * Starts the stand-in on loopback. With `isReachable` the realm's issuer is its own address, so that a browser can log in. Other
 * processes can control it over HTTP: `POST /__stack/knobs`, `POST /__stack/users`, `GET /__stack/calls`,
 * `GET /__stack/token?user=alice&seconds=300`.
 */
export async function startDomino(
  options: { port?: number; clock?: Clock; issuer?: string; isReachable?: boolean } = {},
): Promise<DominoStandIn> {
  const clock = options.clock ?? systemClock;
  const users = new Map<string, DominoUser>();
  const calls: string[] = [];
  const counts = new Map<string, number>();
  const knobs = quiet();

  const server = await startServer(async (request, response) => {
    const url = new URL(request.url ?? '/', 'http://stand-in');
    const { pathname, searchParams } = url;
    if (pathname.startsWith('/__stack/')) {
      await control(pathname, searchParams, request, response);
      return;
    }
    const line = `${request.method} ${pathname}`;
    calls.push(line);
    if (calls.length > 10_000) calls.shift();
    counts.set(line, (counts.get(line) ?? 0) + 1);
    const inScope = knobs.scope === 'all' || (knobs.scope === 'keys') === realmPaths.includes(pathname);
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
    if (await login.handle(url, request, response)) return;
    const failing = inScope && knobs.failStatus > 0;
    const [status, body] = failing ? [knobs.failStatus, { message: 'told to fail' }] : answer(pathname, request);
    if (failing && knobs.location !== '') response.setHeader('location', knobs.location);
    send(response, status, body);
  }, options.port);
  const issuer = options.isReachable ? `${server.url}${realmPath}` : `https://domino.example.com${realmPath}`;
  const realm = createRealm(options.issuer ?? issuer, clock);
  const login = createRealmLogin(realm, users, clock, clients, knobs);

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
    if (pathname === discoveryPath)
      return [200, { issuer: realm.issuer, jwks_uri: standIn.jwksUrl, ...login.metadata }];
    const user = whoIs(request);
    if (pathname === '/v4/auth/principal') {
      // Domino answers a wrong credential with 200 and an anonymous principal.
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
    addUser({ name, id, admin = false, orgs = [], orgIds = {}, apiKey }) {
      const hash = digest(`user ${name}`);
      const subject = [hash.slice(0, 8), hash.slice(8, 12), hash.slice(12, 16), hash.slice(16, 20), hash.slice(20, 32)];
      const key = apiKey ?? digest(`key ${name}`);
      const user = {
        id: id ?? digest(`id ${name}`).slice(0, 24),
        name,
        admin,
        orgs,
        orgIds,
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

/** The id that the stand-in gives to an organization by default. */
export function organizationIdOf(name: string): string {
  return digest(`org ${name}`).slice(0, 24);
}

function organizationOf(name: string, user: DominoUser) {
  const id = user.orgIds[name] === undefined ? organizationIdOf(name) : user.orgIds[name];
  return {
    ...(id === null ? {} : { id }),
    name,
    organizationUserId: digest(`org user ${name}`).slice(0, 24),
    members: [{ id: user.id, role: user.admin ? 'Admin' : 'Member' }],
  };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  // As Keycloak answers for its discovery document.
  response.writeHead(status, { 'content-type': 'application/json', 'access-control-allow-origin': '*' });
  response.end(JSON.stringify(body));
}
