/** Owns the credential: how it is read from a request, and what a bearer token must be to be believed. */
import type { IncomingHttpHeaders } from 'node:http';
import { createRemoteJWKSet, errors, type FlattenedJWSInput, type JWSHeaderParameters, jwtVerify } from 'jose';
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { Log } from './log.ts';

export type Credential =
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'api-key'; readonly key: string };

/** What a verified token says. */
export interface Claims {
  /** Keycloak's id of the user; not Domino's `canonicalId`. */
  readonly subject: string;
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
  readonly issuedAt?: number;
  readonly username?: string;
}

export interface Authenticator {
  /**
   * @throws ApiError `unauthenticated`, with a reason the user understands, for a token that cannot be believed;
   * `domino_unavailable` when the keys to judge it by cannot be had, which is no fault of the caller.
   */
  verify(token: string): Promise<Claims>;
  /** Fetches the keys, again and again with growing pauses until it worked or `signal` is aborted; never rejects. */
  warm(signal?: AbortSignal): Promise<void>;
  /** Whether keys were had at least once. */
  ready(): boolean;
}

export interface AuthenticatorOptions {
  /** What `iss` must be, to the letter. */
  issuer: string;
  jwksUrl: string;
  /** What `aud` must hold; any audience will do unless given. */
  audience?: string | undefined;
  clock: Clock;
  log?: Log;
  /** How long one fetch of the keys may take, in milliseconds. */
  fetchTimeoutMs?: number;
}

/** Signatures that only the holder of a private key can make: no `none`, and no HMAC that a public key would verify. */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ');

/** Keycloak's tokens are 1-4 KiB; more costs work before the signature is known to be good. */
const maxTokenChars = 16 * 1024;
const clockToleranceSeconds = 5;

/** Keys are fetched afresh when they are this old, and used up to `staleMs` while that fails. */
const freshMs = 10 * 60_000;
const staleMs = 60 * 60_000;
const longestRefreshMs = 500;

/**
 * Pause between fetches caused by unknown key ids. Such ids are free to make up, so the pause bounds what a stranger can
 * do to Keycloak (one fetch in 2 s and replica); jose's own 30 s would refuse good tokens for that long when keys are
 * rotated just after a fetch.
 */
const cooldownMs = 2000;

/** RFC 6750 section 2.1 (`b64token`); the scheme's case does not matter (RFC 9110 section 11.1). */
const bearerForm = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;
/** Node joins repeated headers with a comma, so a comma means two keys: which one counts is not for us to guess. */
const apiKeyForm = /^[\x21-\x2b\x2d-\x7e]{1,512}$/;

/**
 * @returns the credential of a request; where there are both, the bearer token, since it expires and names its issuer.
 * @throws ApiError `unauthenticated` when there is none, or it is garbled, or an API key where those are not accepted.
 */
export function readCredential(headers: IncomingHttpHeaders, { allowApiKey }: { allowApiKey: boolean }): Credential {
  if (headers.authorization !== undefined) {
    const token = bearerForm.exec(headers.authorization.trim())?.[1];
    if (token === undefined) {
      throw new ApiError(
        'unauthenticated',
        'The Authorization header must read "Bearer <token>", with one token in it.',
      );
    }
    return { kind: 'bearer', token };
  }
  const key = headers['x-domino-api-key'];
  if (key === undefined) {
    const ways = allowApiKey ? 'a Domino bearer token or an API key' : 'a Domino bearer token';
    throw new ApiError('unauthenticated', `The request carries no credential: send ${ways}.`);
  }
  if (!allowApiKey) {
    throw new ApiError('unauthenticated', 'API keys are not accepted here: send a Domino bearer token.');
  }
  if (typeof key !== 'string' || !apiKeyForm.test(key)) {
    throw new ApiError('unauthenticated', 'The X-Domino-Api-Key header must hold one API key.');
  }
  return { kind: 'api-key', key };
}

export function createAuthenticator(options: AuthenticatorOptions): Authenticator {
  const { issuer, audience, clock } = options;
  const keys = createKeys(options);
  return {
    async verify(token) {
      if (token.length > maxTokenChars) {
        throw new ApiError('unauthenticated', 'The token is malformed: it is longer than 16 KiB.');
      }
      try {
        const { payload } = await jwtVerify(token, keys.find, {
          algorithms,
          issuer,
          ...(audience === undefined ? {} : { audience }),
          requiredClaims: ['exp', 'sub'],
          clockTolerance: clockToleranceSeconds,
          currentDate: new Date(clock.now()),
        });
        const { sub, exp, iat, preferred_username: username } = payload;
        if (typeof sub !== 'string' || sub === '' || exp === undefined) throw new errors.JWTInvalid('no subject');
        return {
          subject: sub,
          expiresAt: exp * 1000,
          ...(iat === undefined ? {} : { issuedAt: iat * 1000 }),
          ...(typeof username === 'string' ? { username } : {}),
        };
      } catch (error) {
        throw error instanceof ApiError ? error : refusal(error, issuer);
      }
    },
    warm: keys.warm,
    ready: keys.ready,
  };
}

/**
 * Keys by id, one fetch in flight. jose keeps and imports them; when to fetch is decided here, because jose's own
 * pauses follow the system's clock and do not hold after a fetch that failed.
 */
function createKeys({ jwksUrl, clock, log, fetchTimeoutMs = 5000 }: AuthenticatorOptions) {
  const remote = createRemoteJWKSet(new URL(jwksUrl), {
    timeoutDuration: fetchTimeoutMs,
    cooldownDuration: Number.POSITIVE_INFINITY,
    cacheMaxAge: Number.POSITIVE_INFINITY,
  });
  let hadAt = Number.NEGATIVE_INFINITY;
  let triedAt = Number.NEGATIVE_INFINITY;
  let failure: ApiError | undefined;
  let inFlight: Promise<void> | undefined;

  async function fetchKeys(): Promise<void> {
    try {
      await remote.reload();
      hadAt = clock.monotonic();
      failure = undefined;
    } catch (cause) {
      failure = new ApiError('domino_unavailable', "Domino's token keys cannot be had at the moment.", { cause });
      log?.warn({ err: cause, url: jwksUrl }, 'the keys that Domino signs tokens with could not be fetched');
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

  return {
    async find(header: JWSHeaderParameters, token: FlattenedJWSInput) {
      const age = clock.monotonic() - hadAt;
      if (age > staleMs) await refresh();
      // Keys that still serve are not held up by a server that hangs.
      else if (age > freshMs) await Promise.race([refresh().catch(() => undefined), clock.sleep(longestRefreshMs)]);
      try {
        return await remote(header, token);
      } catch (error) {
        if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
        await refresh();
        return await remote(header, token);
      }
    },
    async warm(signal?: AbortSignal) {
      for (let pause = 500; !signal?.aborted; pause = Math.min(pause * 2, 15_000)) {
        const worked = await load().then(
          () => true,
          () => false,
        );
        if (worked) return;
        await clock.sleep(pause, signal);
      }
    },
    ready: () => hadAt > Number.NEGATIVE_INFINITY,
  };
}

/** The reason in public words. jose's errors hold claims and pieces of the token, so only code and message are kept. */
function refusal(error: unknown, issuer: string): ApiError {
  const cause = error instanceof errors.JOSEError ? `${error.code}: ${error.message}` : String(error);
  return new ApiError('unauthenticated', reasonOf(error, issuer), { cause });
}

function reasonOf(error: unknown, issuer: string): string {
  if (error instanceof errors.JWTExpired) return 'The token has expired: get a fresh one.';
  if (error instanceof errors.JWTClaimValidationFailed) {
    if (error.reason !== 'check_failed') return `The token carries no valid "${error.claim}" claim.`;
    if (error.claim === 'nbf') return 'The token is not yet valid: the clocks of its issuer and this service differ.';
    if (error.claim === 'iss') return `The token comes from another issuer: tokens of ${issuer} are accepted.`;
    if (error.claim === 'aud') return 'The token is meant for another audience.';
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return 'The token is signed with an algorithm that is not allowed.';
  }
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
    return `The token is signed with an unknown key: ${issuer} publishes none with its key id.`;
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return 'The token has a bad signature.';
  return 'The token is malformed.';
}
