/** Owns the keys that Domino signs tokens with: fetched by one call at a time, with pauses that strangers cannot shorten. */
import { createRemoteJWKSet, customFetch, errors, type FlattenedJWSInput, type JWSHeaderParameters } from 'jose';
import { boundedText } from '../lib/bounded-text.ts';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

export interface TokenKeysOptions {
  jwksUrl: string;
  clock: Clock;
  log?: Log | undefined;
  /** How long one fetch of the keys may take, in milliseconds. */
  fetchTimeoutMs?: number | undefined;
}

/** Keys are fetched afresh when they are this old, and used up to `staleMs` while that fails. */
const freshMs = 10 * 60_000;
const staleMs = 60 * 60_000;
const longestRefreshMs = 500;
/** A realm has a few keys of some KiB. */
const maxKeysBytes = 1024 * 1024;

/**
 * Pause between fetches caused by unknown key ids. Such ids are free to make up, so the pause bounds what a stranger can
 * do to Keycloak (one fetch in 2 s and replica); jose's own 30 s would refuse good tokens for that long when keys are
 * rotated just after a fetch.
 */
const cooldownMs = 2000;
/** So many tokens of unknown keys wait for the next fetch at a time; a stranger who sends more is refused at once. */
const mostWaiting = 500;

/**
 * Keys by id, one fetch in flight. jose keeps and imports them; when to fetch is decided here, because jose's own
 * pauses follow the system's clock and do not hold after a fetch that failed.
 */
export function createTokenKeys({ jwksUrl, clock, log, fetchTimeoutMs = 5000 }: TokenKeysOptions) {
  /** What answered in place of the keys, for the log. */
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
  /** Loads, unless that was just tried: then the outcome of that try stands. */
  async function refresh(): Promise<void> {
    if (inFlight || clock.monotonic() - triedAt >= cooldownMs) await load();
    else if (failure) throw failure;
  }
  /** The first fetch that begins from now on, as soon as one may; all who wait share it. */
  function nextLoad(): Promise<void> {
    next ??= (async () => {
      await inFlight?.catch(() => undefined);
      await clock.sleep(triedAt + cooldownMs - clock.monotonic());
      next = undefined;
      await load();
    })();
    return next;
  }
  /** A key that was rotated in since the last fetch is good, and its id looks like one that a stranger made up. */
  async function findNew(header: JWSHeaderParameters, token: FlattenedJWSInput, unknown: unknown) {
    // What was just tried stands: nobody waits for a server that failed.
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
      // Keys that still serve are not held up by a server that hangs.
      else if (age > freshMs) await Promise.race([refresh().catch(() => undefined), clock.sleep(longestRefreshMs)]);
      try {
        return await remote(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        // What a fetch says that began since then is the latest.
        if (begun > begunBefore && !inFlight) throw error;
        return await findNew(header, token, error);
      }
    },
    /** Fetches the keys, again and again with growing pauses until it worked or `signal` is aborted; never rejects. */
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
    /** Whether keys were had at least once. */
    ready: (): boolean => hadAt > Number.NEGATIVE_INFINITY,
  };
}

/** Without a query: that of a login page may hold what is not for the log. */
function locationOf(response: Response, url: string): { location?: string } {
  const sent = response.headers.get('location');
  if (sent === null || !URL.canParse(sent, url)) return {};
  const { origin, pathname } = new URL(sent, url);
  return { location: `${origin}${pathname}`.slice(0, 300) };
}
