/** Owns the caller: asks Domino whose credential a request carries, and caches the answer for a short while. */
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Domino, DominoOrganization } from './domino.ts';
import type { Authenticator, Claims, Credential } from './token.ts';

/** The user, or Domino service account, behind a request. */
export interface Caller {
  /** Domino's `canonicalId`: the value of the pods' label `dominodatalab.com/starting-user-id`. */
  readonly id: string;
  readonly name: string;
  readonly admin: boolean;
  /** The names of the caller's organizations, sorted, each once. */
  readonly orgs: readonly string[];
  /** Name -> the sorted ids of the caller's organizations of that name; no entry where Domino gave no id. */
  readonly organizationIds: ReadonlyMap<string, readonly string[]>;
}

export interface Callers {
  /**
   * @throws ApiError `unauthenticated` for a credential that is refused, `domino_unavailable` when Domino or its keys
   * cannot be reached. A failure is never cached.
   * @param maxAgeMs how old Domino's cached answer may be, where less than usual.
   */
  resolve(credential: Credential, maxAgeMs?: number): Promise<Caller>;
  /**
   * The sender that a request counts for, without asking Domino: a verified token's subject. An API key cannot be
   * verified here, so each key is a sender; something else must limit clients that make keys up.
   * @throws ApiError as `resolve` does.
   */
  identify(credential: Credential): Promise<string>;
}

export interface CallersOptions {
  domino: Domino;
  authenticator: Authenticator;
  clock: Clock;
  allowApiKey: boolean;
  /** How many credentials are cached. */
  max?: number;
}

/** How long an answer is cached, and so how long a change of a user's organizations may take to have an effect. */
const ttlMs = 30_000;

export function createCallers(options: CallersOptions): Callers {
  const { domino, authenticator, clock, allowApiKey, max = 10_000 } = options;
  const verified = new Remembered<Claims>(clock, max);
  const callers = new Remembered<Caller>(clock, max);

  /** Verifies a token. An API key cannot be verified here, and its expiry is unknown: undefined. */
  async function verify(credential: Credential, key: string): Promise<Claims | undefined> {
    if (credential.kind === 'api-key') {
      if (!allowApiKey) throw new ApiError('unauthenticated', 'API keys are not accepted here: send a bearer token.');
      return undefined;
    }
    return verified.get(key, async () => {
      const claims = await authenticator.verify(credential.token);
      return { value: claims, expiresAt: claims.expiresAt };
    });
  }

  async function ask(credential: Credential): Promise<Caller> {
    const organizations = domino.organizations(credential);
    // The principal call decides which error is reported. A failure here waits for it, and must not count as unhandled.
    organizations.catch(() => undefined);
    const { anonymous, admin, canonicalId, canonicalName } = await domino.principal(credential);
    if (anonymous || canonicalId === undefined) {
      throw new ApiError('unauthenticated', 'Domino does not know the owner of this credential.');
    }
    const found = await organizations;
    const orgs = [...new Set(found.map(({ name }) => name))].sort();
    const name = canonicalName ?? canonicalId;
    const organizationIds = idsByName(found);
    return Object.freeze({ id: canonicalId, name, admin, orgs: Object.freeze(orgs), organizationIds });
  }

  return {
    resolve(credential, maxAgeMs) {
      const key = keyOf(credential);
      const load = async () => {
        const claims = await verify(credential, key);
        const caller = await ask(credential);
        return { value: caller, expiresAt: claims?.expiresAt ?? Number.POSITIVE_INFINITY };
      };
      return callers.get(key, load, maxAgeMs);
    },
    async identify(credential) {
      const key = keyOf(credential);
      const claims = await verify(credential, key);
      return claims ? `subject:${claims.subject}` : `api-key:${key}`;
    },
  };
}

function idsByName(organizations: readonly DominoOrganization[]): ReadonlyMap<string, readonly string[]> {
  const ids = new Map<string, string[]>();
  for (const { name, id } of organizations) {
    if (id !== undefined) ids.set(name, [...new Set([...(ids.get(name) ?? []), id])].sort());
  }
  return ids;
}

const keys = new WeakMap<Credential, string>();

/** Hashed, so that the caches hold no credential; computed once for each request. */
function keyOf(credential: Credential): string {
  const known = keys.get(credential);
  if (known !== undefined) return known;
  const text = credential.kind === 'bearer' ? credential.token : credential.key;
  const key = hash('sha256', `${credential.kind} ${text}`, 'base64url');
  keys.set(credential, key);
  return key;
}

interface Entry<Value> {
  readonly value: Value;
  /** When the credential expires, on the wall clock. */
  readonly expiresAt: number;
  /** On the monotonic clock, so that a wall clock set back does not extend it. */
  readonly staleAt: number;
}

/** A cache of answers by key, each kept until it is stale or its credential expires; one load in flight per key. */
class Remembered<Value> {
  readonly #clock: Clock;
  readonly #entries: LRUCache<string, Entry<Value>>;
  readonly #inFlight = new Map<string, Promise<Value>>();

  constructor(clock: Clock, max: number) {
    this.#clock = clock;
    this.#entries = new LRUCache({ max });
  }

  /** @param load gives the value and when its credential expires. Its failure goes to all waiting callers, uncached. */
  get(key: string, load: () => Promise<{ value: Value; expiresAt: number }>, maxAgeMs = ttlMs): Promise<Value> {
    const entry = this.#entries.get(key);
    const sooner = ttlMs - Math.min(maxAgeMs, ttlMs);
    if (entry && this.#clock.monotonic() < entry.staleAt - sooner && this.#clock.now() < entry.expiresAt) {
      return Promise.resolve(entry.value);
    }
    const shared = this.#inFlight.get(key);
    if (shared) return shared;
    const loading = this.#load(key, load).finally(() => this.#inFlight.delete(key));
    this.#inFlight.set(key, loading);
    return loading;
  }

  async #load(key: string, load: () => Promise<{ value: Value; expiresAt: number }>): Promise<Value> {
    const staleAt = this.#clock.monotonic() + ttlMs;
    const { value, expiresAt } = await load();
    this.#entries.set(key, { value, expiresAt, staleAt });
    return value;
  }
}
