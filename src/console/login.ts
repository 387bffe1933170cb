/** Owns the login: authorization code with PKCE against the realm, as a public client. */
import {
  type AuthorizationServer,
  allowInsecureRequests,
  authorizationCodeGrantRequest,
  type Client,
  calculatePKCECodeChallenge,
  discoveryRequest,
  generateRandomCodeVerifier,
  generateRandomState,
  None,
  processAuthorizationCodeResponse,
  processDiscoveryResponse,
  processRefreshTokenResponse,
  ResponseBodyError,
  refreshTokenGrantRequest,
  type TokenEndpointResponse,
  validateAuthResponse,
} from 'oauth4webapi';
import { type Session, sessionOf } from './session.ts';
import type { ConsoleConfig } from './types.ts';

/** The state kept while the browser is at the realm: it has no token, and is useless once the code was redeemed. */
interface Attempt {
  readonly verifier: string;
  readonly state: string;
  /** The page of the console from which the login began. */
  readonly hash: string;
}

const key = 'irsa-login';
const timeoutMs = 10_000;
const redirectUri = () => location.origin + location.pathname;

/** Requests to the realm have a timeout. Plain HTTP is allowed only for a realm on this machine, such as the development stack's. */
function transport(issuer: string) {
  const { protocol, hostname } = new URL(issuer);
  const isLocal = protocol === 'http:' && ['127.0.0.1', 'localhost', '[::1]'].includes(hostname);
  return { [allowInsecureRequests]: isLocal, signal: () => AbortSignal.timeout(timeoutMs) };
}

async function discover({ issuer, client_id: id }: ConsoleConfig) {
  const server = await processDiscoveryResponse(
    new URL(issuer),
    await discoveryRequest(new URL(issuer), transport(issuer)),
  );
  const client: Client = { client_id: id ?? '' };
  return { server, client };
}

/** Leaves the page for the realm's login. @throws Error when the realm does not answer. */
export async function startLogin(config: ConsoleConfig): Promise<void> {
  const { server, client } = await discover(config);
  const attempt: Attempt = {
    verifier: generateRandomCodeVerifier(),
    state: generateRandomState(),
    hash: location.hash,
  };
  const url = new URL(server.authorization_endpoint ?? '');
  url.search = new URLSearchParams({
    client_id: client.client_id,
    response_type: 'code',
    // A fragment is not sent to servers, so the code reaches no server's log.
    response_mode: 'fragment',
    redirect_uri: redirectUri(),
    scope: 'openid',
    state: attempt.state,
    code_challenge: await calculatePKCECodeChallenge(attempt.verifier),
    code_challenge_method: 'S256',
  }).toString();
  sessionStorage.setItem(key, JSON.stringify(attempt));
  location.assign(url);
}

/** Whether the browser comes back from the realm. */
export function isReturning(): boolean {
  const answer = new URLSearchParams(location.hash.slice(1));
  return answer.has('state') && (answer.has('code') || answer.has('error'));
}

/** Redeems the realm's code. It removes the code from the address before the first await. */
export async function finishLogin(config: ConsoleConfig): Promise<Session> {
  const answer = new URLSearchParams(location.hash.slice(1));
  const stored = sessionStorage.getItem(key);
  sessionStorage.removeItem(key);
  const attempt = JSON.parse(stored ?? 'null') as Attempt | null;
  history.replaceState(null, '', location.pathname + (attempt?.hash ?? ''));
  if (!attempt) throw new Error('This login was begun in another tab. Log in again.');
  const { server, client } = await discover(config);
  const options = transport(config.issuer);
  const parameters = validateAuthResponse(server, client, answer, attempt.state);
  const response = await authorizationCodeGrantRequest(
    server,
    client,
    None(),
    parameters,
    redirectUri(),
    attempt.verifier,
    options,
  );
  return sessionFrom(await processAuthorizationCodeResponse(server, client, response), server, client, options);
}

/** Errors of RFC 6749, section 5.2, for which a retry would not help. */
const refusals = ['invalid_grant', 'invalid_client', 'unauthorized_client'];

function sessionFrom(
  { access_token: token, refresh_token: refresh }: TokenEndpointResponse,
  server: AuthorizationServer,
  client: Client,
  options: ReturnType<typeof transport>,
): Session {
  if (refresh === undefined) return sessionOf(token);
  return sessionOf(token, async () => {
    const response = await refreshTokenGrantRequest(server, client, None(), refresh, options);
    const next = await processRefreshTokenResponse(server, client, response).catch((error: unknown) => {
      if (error instanceof ResponseBodyError && refusals.includes(error.error)) return undefined;
      throw error;
    });
    if (!next) return undefined;
    return sessionFrom({ ...next, refresh_token: next.refresh_token ?? refresh }, server, client, options);
  });
}
