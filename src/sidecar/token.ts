/** Owns the bearer token: fetches it from Domino's proxy in the workload for each try, since it lives five minutes. */
import type { Clock } from '../lib/clock.ts';
import { Broken } from './broken.ts';
import { exchange } from './exchange.ts';
import { Failure } from './failure.ts';

/** The proxy runs in the same pod and answers from memory. */
const deadlineMs = 5_000;
/** Larger than any token, which has to fit into a header. */
const maxBytes = 64 * 1024;

/** @throws Failure `token_proxy_unreachable` or `token_proxy_failed`, without the token. */
export async function fetchToken(apiProxy: string, clock: Clock, signal: AbortSignal): Promise<string> {
  const answer = await exchange({
    url: `${apiProxy}/access-token`,
    method: 'GET',
    deadlineMs,
    maxBytes,
    clock,
    signal,
  }).catch((error: unknown) => {
    const detail = error instanceof Broken ? error.code : undefined;
    const answered = error instanceof Broken && error.kind === 'too_long';
    throw new Failure(answered ? 'token_proxy_failed' : 'token_proxy_unreachable', { detail, cause: error });
  });
  if (answer.status !== 200)
    throw new Failure('token_proxy_failed', { detail: `GET ${apiProxy}/access-token: HTTP ${answer.status}` });
  const token = answer.text.trim();
  // A login page or an error's text is no token, and must not become a header.
  if (!/^[\w.~+/=-]{8,}$/.test(token)) {
    throw new Failure('token_proxy_failed', {
      detail: token === '' ? 'it was empty' : 'it does not have the form of a token',
    });
  }
  return token;
}
