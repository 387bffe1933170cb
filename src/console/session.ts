/** Owns the viewer's session: one token in memory, its renewal and its end. The token is in no storage and no URL. */
import { computed, signal } from '@preact/signals';

type Renew = () => Promise<Session | undefined>;

export interface Session {
  readonly token: string;
  readonly user: string;
  /** Milliseconds since the epoch. */
  readonly endsAt: number;
  /** Fetches the next token; undefined when the realm refuses one. @throws Error when the realm does not answer. */
  readonly renew?: Renew;
}

/** Undefined before a login. */
export const session = signal<Session | undefined>(undefined);
/** Why the last session ended, or the last login failed; a sentence. */
export const loginProblem = signal('');
/** The time in milliseconds since the epoch, updated each second. */
export const now = signal(Date.now());
export const secondsLeft = computed(() =>
  session.value ? Math.max(0, Math.floor((session.value.endsAt - now.value) / 1000)) : 0,
);

const renewBeforeMs = 45_000;
/** The wait before the next renewal when the realm did not answer. */
const renewAgainMs = 5_000;
let renewing: Promise<void> | undefined;
let renewNotBefore = 0;

/** @throws Error with a sentence for the person who pasted the token. */
export function sessionOf(token: string, renew?: Renew): Session {
  const claims = claimsOf(token.trim());
  const endsAt = Number(claims.exp) * 1000;
  if (!(endsAt > Date.now())) throw new Error('This token has expired: fetch a new one.');
  const name = claims.preferred_username ?? claims.sub;
  return { token: token.trim(), user: String(name ?? 'unknown'), endsAt, ...(renew ? { renew } : {}) };
}

function claimsOf(token: string): Record<string, unknown> {
  try {
    const payload = (token.split('.')[1] ?? '').replaceAll('-', '+').replaceAll('_', '/');
    const bytes = Uint8Array.from(atob(payload), (character) => character.charCodeAt(0));
    const claims: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof claims === 'object' && claims !== null) return claims as Record<string, unknown>;
  } catch {
    // The error is thrown below.
  }
  throw new Error('This is not a token: it starts with ey, and has two dots.');
}

export function begin(next: Session): void {
  loginProblem.value = '';
  now.value = Date.now();
  renewNotBefore = 0;
  session.value = next;
}

export function end(why: string): void {
  session.value = undefined;
  loginProblem.value = why;
}

/** Runs each second: renews a session that is about to end, if it can be renewed, and drops one that has ended. */
export function tick(): void {
  now.value = Date.now();
  const current = session.value;
  if (!current) return;
  const left = current.endsAt - now.value;
  if (current.renew) {
    if (left < renewBeforeMs && now.value >= renewNotBefore) void renewed(current);
  } else if (left <= 0) end('Your session has ended. Log in again, or paste a new token.');
}

/** Runs one renewal at a time, since a refresh token may work only once. */
function renewed(current: Session): Promise<void> {
  renewing ??= askRealm(current).finally(() => {
    renewing = undefined;
  });
  return renewing;
}

/** A failure of the realm does not end the session. */
async function askRealm(current: Session): Promise<void> {
  try {
    const next = await current.renew?.();
    if (session.peek() !== current) return;
    const { renew: _, ...last } = current;
    // A token that the realm does not renew is still valid until its end.
    if (next) begin(next);
    else session.value = last;
  } catch {
    renewNotBefore = Date.now() + renewAgainMs;
  }
}

/**
 * Handles a token that the service refused: the session ends, unless it has a newer token by now, or gets one.
 * @param isSecond whether the call was a second try.
 * @returns whether to try the call again with the current token.
 */
export async function tokenRefused(sent: Session, isSecond: boolean): Promise<boolean> {
  const isCurrent = () => session.peek()?.token === sent.token;
  const current = session.peek();
  if (current && isCurrent() && current.renew && !isSecond) await renewed(current);
  if (!isCurrent()) return !isSecond && session.peek()?.user === sent.user;
  if (isSecond || !session.peek()?.renew) end('The service no longer takes this token. Log in again.');
  return false;
}
