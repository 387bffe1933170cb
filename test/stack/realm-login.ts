/** Owns the login of the stand-in realm: authorization code with PKCE for public clients, and refresh tokens, as in Keycloak. */
import { createHash, randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import type { Realm } from './realm.ts';
import { readBody } from './server.ts';

type User = Parameters<Realm['token']>[0];

interface Code {
  readonly user: User;
  readonly client: string;
  readonly redirectUri: string;
  readonly challenge: string;
  readonly endsAt: number;
}

export interface RealmLogin {
  /** The login's fields in the discovery document. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** @returns whether the request was for the login. */
  handle(url: URL, request: IncomingMessage, response: ServerResponse): Promise<boolean>;
}

/** A login: Keycloak's session, to which refresh tokens belong. */
interface Login {
  readonly user: User;
  readonly client: string;
  /** The end of the session, however often it is renewed. */
  readonly endsAt: number;
}

interface RefreshToken {
  readonly login: Login;
  readonly endsAt: number;
  isUsed: boolean;
}

export interface RealmSettings {
  /** Keycloak's "Revoke Refresh Token" with a maximum reuse of 0: each token works once. */
  readonly revokeRefreshToken: boolean;
}

const codeLivesMs = 60_000;
/** Like Domino's. */
const tokenSeconds = 300;
/** Keycloak's defaults of "SSO Session Idle" and "SSO Session Max". */
const idleMs = 1_800_000;
const maxMs = 36_000_000;

/**
 * @param clients the public clients, each with the pages that a code may be sent to, `*` at the end as in Keycloak; their
 * origins are the web origins too.
 */
export function createRealmLogin(
  realm: Realm,
  users: ReadonlyMap<string, User>,
  clock: Clock,
  clients: ReadonlyMap<string, readonly string[]>,
  settings: RealmSettings,
): RealmLogin {
  const root = new URL(realm.issuer).pathname;
  const paths = {
    authorize: `${root}/protocol/openid-connect/auth`,
    token: `${root}/protocol/openid-connect/token`,
  };
  const codes = new Map<string, Code>();
  const logins = new Set<Login>();
  const refreshTokens = new Map<string, RefreshToken>();

  const isAllowed = (client: string, uri: string) =>
    URL.canParse(uri) &&
    new URL(uri).username === '' &&
    (clients.get(client) ?? []).some((allowed) =>
      allowed.endsWith('*') ? uri.startsWith(allowed.slice(0, -1)) : uri === allowed,
    );

  function authorize(query: URLSearchParams, response: ServerResponse): void {
    const get = (name: string) => query.get(name) ?? '';
    const [client, redirectUri] = [get('client_id'), get('redirect_uri')];
    // A code is sent only to a page that the client has registered.
    if (!isAllowed(client, redirectUri)) {
      page(response, 400, 'Invalid parameter: redirect_uri');
      return;
    }
    const answer = new URLSearchParams({ state: get('state'), session_state: randomUUID(), iss: realm.issuer });
    const send = () => {
      const mark = get('response_mode') === 'fragment' ? '#' : '?';
      response.writeHead(302, { location: `${redirectUri}${mark}${answer}` }).end();
    };
    if (
      get('response_type') !== 'code' ||
      get('code_challenge_method') !== 'S256' ||
      !/^[\w-]{43}$/.test(get('code_challenge'))
    ) {
      answer.set('error', 'invalid_request');
      send();
      return;
    }
    const user = users.get(get('username'));
    if (!user) {
      page(response, 200, loginForm(query, get('username')));
      return;
    }
    const code = randomUUID();
    const challenge = get('code_challenge');
    codes.set(code, { user, client, redirectUri, challenge, endsAt: clock.now() + codeLivesMs });
    answer.set('code', code);
    send();
  }

  function redeem(form: URLSearchParams): User | undefined {
    const code = codes.get(form.get('code') ?? '');
    // A code works once, whatever the result.
    codes.delete(form.get('code') ?? '');
    const hash = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    const isRight =
      code?.client === form.get('client_id') &&
      code.redirectUri === form.get('redirect_uri') &&
      code.challenge === hash &&
      code.endsAt > clock.now();
    return isRight ? code.user : undefined;
  }

  function begun(user: User | undefined, client: string): Login | string {
    if (!user) return 'Code not valid';
    const login = { user, client, endsAt: clock.now() + maxMs };
    logins.add(login);
    return login;
  }

  /** @returns the login, or Keycloak's message for a refusal. */
  function renewed(form: URLSearchParams): Login | string {
    const known = refreshTokens.get(form.get('refresh_token') ?? '');
    if (!known) return 'Invalid refresh token';
    if (known.login.client !== form.get('client_id')) {
      return "Invalid refresh token. Token client and authorized client don't match";
    }
    if (known.endsAt <= clock.now()) return 'Token is not active';
    if (!logins.has(known.login)) return "Session doesn't have required client";
    if (settings.revokeRefreshToken && known.isUsed) {
      // The token may have been stolen, so the login ends for its owner too.
      logins.delete(known.login);
      return 'Maximum allowed refresh token reuse exceeded';
    }
    known.isUsed = true;
    return known.login;
  }

  function tokens(form: URLSearchParams): [status: number, body: object] {
    const grant = form.get('grant_type');
    const client = form.get('client_id') ?? '';
    const login =
      grant === 'authorization_code'
        ? begun(redeem(form), client)
        : grant === 'refresh_token'
          ? renewed(form)
          : 'Code not valid';
    if (typeof login === 'string') return [400, { error: 'invalid_grant', error_description: login }];
    const { user } = login;
    const refresh = randomUUID();
    const endsAt = Math.min(clock.now() + idleMs, login.endsAt);
    refreshTokens.set(refresh, { login, endsAt, isUsed: false });
    return [
      200,
      {
        access_token: realm.token(user, { claims: { azp: client } }),
        expires_in: tokenSeconds,
        refresh_expires_in: Math.floor((endsAt - clock.now()) / 1000),
        refresh_token: refresh,
        token_type: 'Bearer',
        id_token: realm.token(user, { aud: client, claims: { typ: 'ID', azp: client } }),
        scope: 'openid email profile',
      },
    ];
  }

  /** A page of another origin than the client's cannot read the answer. */
  function corsOf(origin: string | undefined, client: string): Record<string, string> {
    if (origin === undefined || !isAllowed(client, origin)) return {};
    return { 'access-control-allow-origin': origin, 'access-control-allow-credentials': 'true' };
  }

  return {
    metadata: {
      authorization_endpoint: new URL(paths.authorize, realm.issuer).href,
      token_endpoint: new URL(paths.token, realm.issuer).href,
      response_types_supported: ['code'],
      response_modes_supported: ['query', 'fragment'],
      grant_types_supported: ['authorization_code', 'refresh_token'],
      code_challenge_methods_supported: ['S256'],
      authorization_response_iss_parameter_supported: true,
    },
    handle: async ({ pathname, searchParams }, request, response) => {
      if (pathname === paths.authorize) authorize(searchParams, response);
      else if (pathname === paths.token) {
        const form = new URLSearchParams(await readBody(request));
        const [status, body] = tokens(form);
        const cors = { ...corsOf(request.headers.origin, form.get('client_id') ?? ''), vary: 'Origin' };
        response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...cors });
        response.end(JSON.stringify(body));
      } else return false;
      return true;
    },
  };
}

/** The login page; hidden fields carry the query, and any user name of the realm logs in. */
function loginForm(query: URLSearchParams, tried: string): string {
  const fields = [...query]
    .filter(([name]) => name !== 'username')
    .map(([name, value]) => `<input type="hidden" name="${escaped(name)}" value="${escaped(value)}">`);
  const wrong = tried === '' ? '' : `<p>Invalid username or password: ${escaped(tried)}</p>`;
  return `<h1>Sign in to DominoRealm</h1>${wrong}<form>${fields.join('')}
<label>Username <input name="username" autofocus></label> <button>Sign in</button></form>`;
}

function escaped(text: string): string {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

function page(response: ServerResponse, status: number, body: string): void {
  response.writeHead(status, { 'content-type': 'text/html; charset=utf-8' });
  response.end(`<!doctype html><html lang="en"><title>Sign in</title><body>${body}`);
}
