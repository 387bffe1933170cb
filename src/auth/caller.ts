/** Owns the caller: who a credential belongs to, as Domino says, remembered for a short while. */
import { hash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Domino, DominoOrganization } from './domino.ts';
import type { Authenticator, Claims, Credential } from './token.ts';

/** The person, or service account, behind a request. */
export interface Caller {
  /** Domino's `canonicalId`: the value of the pods' label `dominodatalab.com/starting-user-id`. */
  readonly id: string;
  readonly name: string;
  readonly admin: boolean;
  /** Their names, sorted, each once. */
  readonly orgs: readonly string[];
  /** Name -> the ids of the organizations of that name, sorted; missing where Domino gave none. */
  readonly organizationIds: ReadonlyMap<string, readonly string[]>;
}

export interface Callers {
  /**
   * @throws ApiError `unauthenticated` for a credential that is not believed, `domino_unavailable` when Domino or its
   * keys cannot be asked. A failure is never remembered.
   * @param maxAgeMs how old an answer of Domino's may be, where that is less than usual.
   */
  resolve(credential: Credential, maxAgeMs?: number): Promise<Caller>;
  /**
   * The sender to count a request for, without asking Domino: a verified token's subject. An API key cannot be verified here,
   * so it counts for itself; a sender of made-up keys must be limited by something else.
   * @returns `expiresAt` in milliseconds since the epoch, Infinity for an API key.
   * @throws ApiError as `resolve` does.
   */
  identify(credential: Credential): Promise<{ key: string; expiresAt: number }>;
}

export interface CallersOptions {
  domino: Domino;
  authenticator: Authenticator;
  clock: Clock;
  allowApiKey: boolean;
  /** How long an answer is remembered: as long as a change of someone's organizations may take to count. */
  ttlMs?: number;
  /** How many credentials are remembered. */
  max?: number;
}

export function createCallers(options: CallersOptions): Callers {
  const { domino, authenticator, clock, allowApiKey, ttlMs = 30_000, max = 10_000 } = options;
  const verified = new Remembered<Claims>(clock, ttlMs, max);
  const callers = new Remembered<Caller>(clock, ttlMs, max);

  /** Checks what can be checked here. An API key has nothing to check, and no end that we know of. */
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
    // The principal's answer decides which error is told; this one waits, and must not count as unhandled meanwhile.
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
      if (!claims) return { key: `api-key:${key}`, expiresAt: Number.POSITIVE_INFINITY };
      return { key: `subject:${claims.subject}`, expiresAt: claims.expiresAt };
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

/** Hashed, so that memory holds no credential that is not in use; once for each request's credential. */
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
  /** Wall clock: the credential's own end. */
  readonly expiresAt: number;
  /** Monotonic clock, so that a wall clock set back prolongs nothing. */
  readonly staleAt: number;
}

/** The last answers by key, each until it is stale or its credential expires; one load in flight per key. */
class Remembered<Value> {
  readonly #clock: Clock;
  readonly #ttlMs: number;
  readonly #entries: LRUCache<string, Entry<Value>>;
  readonly #inFlight = new Map<string, Promise<Value>>();

  constructor(clock: Clock, ttlMs: number, max: number) {
    this.#clock = clock;
    this.#ttlMs = ttlMs;
    this.#entries = new LRUCache({ max });
  }

  /** @param load what to remember, and when its credential expires. Its failure goes to all who wait, and is forgotten. */
  get(key: string, load: () => Promise<{ value: Value; expiresAt: number }>, maxAgeMs = this.#ttlMs): Promise<Value> {
    const entry = this.#entries.get(key);
    const sooner = this.#ttlMs - Math.min(maxAgeMs, this.#ttlMs);
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
    const staleAt = this.#clock.monotonic() + this.#ttlMs;
    const { value, expiresAt } = await load();
    this.#entries.set(key, { value, expiresAt, staleAt });
    return value;
  }
}
