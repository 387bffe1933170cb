/** Owns the credential: how it is read from a request, and what a bearer token must be to be believed. */
import type { IncomingHttpHeaders } from 'node:http';
import { errors, jwtVerify } from 'jose';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { askRealmIssuer } from './realm-issuer.ts';
import { createTokenKeys } from './token-keys.ts';
import { createRefusals, type RefusalReason, Refused, refusal, refuseOtherKinds } from './token-refusal.ts';

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
  /**
   * Fetches the keys, again and again with growing pauses until it worked and the realm is not seen to be another one, or
   * `signal` is aborted; never rejects.
   */
  warm(signal?: AbortSignal): Promise<void>;
  /** Whether keys were had at least once. */
  ready(): boolean;
  /** False while the realm of the keys says that it issues tokens under another name, and no token was believed yet. */
  issuerFits(): boolean;
}

export interface AuthenticatorOptions {
  /** What `iss` must be, to the letter. */
  issuer: string;
  jwksUrl: string;
  /** What `aud` must hold; any audience will do unless given. */
  audience?: string | undefined;
  clock: Clock;
  log?: Log;
  /** Called for each token that is not believed. */
  onRefused?: (reason: RefusalReason) => void;
  /** How long one fetch of the keys may take, in milliseconds. */
  fetchTimeoutMs?: number;
}

/** Signatures that only the holder of a private key can make: no `none`, and no HMAC that a public key would verify. */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ');

/**
 * Keycloak's tokens are 1-4 KiB, and 22 KiB with 420 realm roles; more costs work before the signature is known to be
 * good. The server takes 32 KiB of headers.
 */
const maxTokenChars = 28 * 1024;
const clockToleranceSeconds = 5;

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
  const { issuer, audience, clock, log, jwksUrl, fetchTimeoutMs = 5000 } = options;
  const keys = createTokenKeys(options);
  const refusals = createRefusals(options);
  let hasBelieved = false;
  let otherIssuer: string | undefined;

  /** @returns whether tokens of the realm can be accepted, as far as that is known. */
  async function issuerFits(): Promise<boolean> {
    const verdict = await askRealmIssuer(jwksUrl, issuer, fetchTimeoutMs);
    const other = verdict.kind === 'other' ? verdict.issuer.slice(0, 300) : undefined;
    if (other !== undefined && other !== otherIssuer) {
      const about = { issuer, realm_issuer: other, url: jwksUrl };
      log?.error(about, 'the realm of the keys issues tokens under another name: all are refused; check DOMINO_ISSUER');
    }
    otherIssuer = other;
    return other === undefined;
  }

  return {
    async verify(token) {
      try {
        if (token.length > maxTokenChars)
          throw new Refused('malformed', 'The token is malformed: it is longer than 28 KiB.');
        const { payload, protectedHeader } = await jwtVerify(token, keys.find, {
          algorithms,
          issuer,
          ...(audience === undefined ? {} : { audience }),
          requiredClaims: ['exp', 'sub'],
          clockTolerance: clockToleranceSeconds,
          currentDate: new Date(clock.now()),
        });
        refuseOtherKinds(protectedHeader.typ, payload);
        const { sub, exp, iat, preferred_username: username } = payload;
        if (typeof sub !== 'string' || sub === '' || exp === undefined) throw new errors.JWTInvalid('no subject');
        hasBelieved = true;
        return {
          subject: sub,
          expiresAt: exp * 1000,
          ...(iat === undefined ? {} : { issuedAt: iat * 1000 }),
          ...(typeof username === 'string' ? { username } : {}),
        };
      } catch (error) {
        if (error instanceof ApiError) throw error;
        const refused = error instanceof Refused ? error : refusal(error, issuer);
        refusals.report(refused.reason, error);
        throw new ApiError('unauthenticated', refused.message, { cause: refused.cause });
      }
    },
    async warm(signal) {
      await keys.warm(signal);
      for (
        let pause = 1000;
        !signal?.aborted && !(await issuerFits()) && !hasBelieved;
        pause = Math.min(pause * 2, 15_000)
      ) {
        await clock.sleep(pause, signal);
      }
    },
    ready: keys.ready,
    issuerFits: () => otherIssuer === undefined || hasBelieved,
  };
}
