/** Owns the keys that Domino signs tokens with: one fetch at a time, and pauses that clients cannot shorten. */
import { createRemoteJWKSet, customFetch, errors, type FlattenedJWSInput, type JWSHeaderParameters } from 'jose';
import { boundedText } from '../lib/bounded-text.ts';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

export interface TokenKeysOptions {
  jwksUrl: string;
  clock: Clock;
  log?: Log;
  /** How long one fetch of the keys may take, in milliseconds. */
  fetchTimeoutMs?: number;
}

/** Keys of this age are fetched again. While that fails, the old ones serve until `staleMs`. */
const freshMs = 10 * 60_000;
const staleMs = 60 * 60_000;
const longestRefreshMs = 500;
/** A realm has a few keys of a few KiB each. */
const maxKeysBytes = 1024 * 1024;

/**
 * Pause between fetches caused by unknown key ids. Anyone can make ids up, so the pause bounds the load on Keycloak
 * (one fetch in 2 s from each replica). With jose's own 30 s, good tokens would be refused for that long when keys are
 * rotated just after a fetch.
 */
const cooldownMs = 2000;
/** How many tokens with unknown keys may wait for the next fetch; more are refused at once. */
const mostWaiting = 500;

/**
 * Keys by id, one fetch in flight. jose stores and imports the keys. This code decides when to fetch, since jose's
 * pauses use the system's clock and do not apply after a fetch that failed.
 */
export function createTokenKeys({ jwksUrl, clock, log, fetchTimeoutMs = 5000 }: TokenKeysOptions) {
  /** The answer that came instead of the keys, for the log. */
  let answered: { status: number; location?: string } | undefined;
  const remote = createRemoteJWKSet(new URL(jwksUrl), {
    timeoutDuration: fetchTimeoutMs,
    cooldownDuration: Number.POSITIVE_INFINITY,
    cacheMaxAge: Number.POSITIVE_INFINITY,
    [customFetch]: async (url, options) => {
      answered = undefined;
      const response = await fetch(url, options);
      if (response.status !== 200) {
        answered = { status: response.status, ...locationOf(response, url) };
        await response.body?.cancel();
        return response;
      }
      return new Response(await boundedText(response, maxKeysBytes));
    },
  });
  let hadAt = Number.NEGATIVE_INFINITY;
  let triedAt = Number.NEGATIVE_INFINITY;
  let failure: ApiError | undefined;
  let inFlight: Promise<void> | undefined;
  let next: Promise<void> | undefined;
  let waiting = 0;
  let begun = 0;

  async function fetchKeys(): Promise<void> {
    begun += 1;
    try {
      await remote.reload();
      hadAt = clock.monotonic();
      failure = undefined;
    } catch (cause) {
      failure = new ApiError('domino_unavailable', "Domino's token keys cannot be had at the moment.", { cause });
      const about = { err: cause, url: jwksUrl, ...answered };
      log?.warn(about, 'the keys that Domino signs tokens with could not be fetched');
      throw failure;
    } finally {
      triedAt = clock.monotonic();
      inFlight = undefined;
    }
  }
  function load(): Promise<void> {
    inFlight ??= fetchKeys();
    return inFlight;
  }
  /** Loads the keys. Within the cooldown of the last fetch, its outcome counts instead. */
  async function refresh(): Promise<void> {
    if (inFlight || clock.monotonic() - triedAt >= cooldownMs) await load();
    else if (failure) throw failure;
  }
  /** The next fetch, begun once the current one and the cooldown are over; all waiting callers share it. */
  function nextLoad(): Promise<void> {
    next ??= (async () => {
      await inFlight?.catch(() => undefined);
      await clock.sleep(triedAt + cooldownMs - clock.monotonic());
      next = undefined;
      await load();
    })();
    return next;
  }
  /** Fetches again for an unknown key id: it may be made up, or belong to a key rotated in since the last fetch. */
  async function findNew(header: JWSHeaderParameters, token: FlattenedJWSInput, unknown: unknown) {
    // The last fetch failed just now: no caller waits for a server that is down.
    if (failure && clock.monotonic() - triedAt < cooldownMs) throw failure;
    if (waiting >= mostWaiting) throw unknown;
    waiting += 1;
    try {
      await nextLoad();
    } finally {
      waiting -= 1;
    }
    return remote(header, token);
  }

  return {
    async find(header: JWSHeaderParameters, token: FlattenedJWSInput) {
      const begunBefore = begun;
      const age = clock.monotonic() - hadAt;
      if (age > staleMs) await refresh();
      // A hanging server does not hold up requests that the present keys can serve.
      else if (age > freshMs) await Promise.race([refresh().catch(() => undefined), clock.sleep(longestRefreshMs)]);
      try {
        return await remote(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        // A fetch that began since then has ended, so the keys are current and the id is unknown.
        if (begun > begunBefore && !inFlight) throw error;
        return await findNew(header, token, error);
      }
    },
    /** Fetches the keys, and retries with growing pauses until it works or `signal` is aborted; never rejects. */
    async warm(signal?: AbortSignal): Promise<void> {
      for (let pause = 500; !signal?.aborted; pause = Math.min(pause * 2, 15_000)) {
        const worked = await load().then(
          () => true,
          () => false,
        );
        if (worked) return;
        await clock.sleep(pause, signal);
      }
    },
    /** Whether the keys have been fetched at least once. */
    ready: (): boolean => hadAt > Number.NEGATIVE_INFINITY,
  };
}

/** Without the query: a login page's query may contain secrets. */
function locationOf(response: Response, url: string): { location?: string } {
  const sent = response.headers.get('location');
  if (sent === null || !URL.canParse(sent, url)) return {};
  const { origin, pathname } = new URL(sent, url);
  return { location: `${origin}${pathname}`.slice(0, 300) };
}
