/** Owns the credential: how it is read from a request, and how a bearer token is verified. */
import type { IncomingHttpHeaders } from 'node:http';
import { errors, jwtVerify } from 'jose';
import { ApiError } from '../lib/errors.ts';
import { askOtherIssuer } from './realm-issuer.ts';
import { createTokenKeys, type TokenKeysOptions } from './token-keys.ts';
import { createRefusals, type RefusalsOptions, Refused, refusal, refuseOtherKinds } from './token-refusal.ts';

export type Credential =
  | { readonly kind: 'bearer'; readonly token: string }
  | { readonly kind: 'api-key'; readonly key: string };

/** The claims of a verified token. */
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
   * @throws ApiError `unauthenticated` for a bad token, with a reason that the user understands; `domino_unavailable`
   * when the keys to verify it cannot be fetched, which is not the caller's fault.
   */
  verify(token: string): Promise<Claims>;
  /**
   * Fetches the keys and checks the realm's issuer. Retries with growing pauses until the keys are here and the issuer
   * fits, or until `signal` is aborted; never rejects.
   */
  warm(signal?: AbortSignal): Promise<void>;
  /** Whether the keys have been fetched at least once. */
  ready(): boolean;
  /** False while the realm of the keys names another issuer and no token has been accepted yet. */
  issuerFits(): boolean;
}

export interface AuthenticatorOptions extends TokenKeysOptions, RefusalsOptions {
  /** The audience that `aud` must contain; any is accepted where this is left out. */
  audience?: string | undefined;
}

/** Only signatures made with a private key: no `none`, and no HMAC, for which a public key could be the secret. */
const algorithms = 'RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519'.split(' ');

/**
 * Keycloak's tokens have 1-4 KiB, and 22 KiB with 420 realm roles. The limit bounds the work on a token whose signature
 * is not verified yet. The server accepts 32 KiB of headers.
 */
const maxTokenChars = 28 * 1024;
const clockToleranceSeconds = 5;

/** RFC 6750 section 2.1 (`b64token`); the scheme's case does not matter (RFC 9110 section 11.1). */
const bearerForm = /^bearer +([A-Za-z0-9._~+/-]+=*)$/i;
/** Node joins repeated headers with a comma, so a value with a comma has two keys, and is refused. */
const apiKeyForm = /^[\x21-\x2b\x2d-\x7e]{1,512}$/;

/**
 * @returns the credential of a request. A bearer token comes before an API key: it expires and names its issuer.
 * @throws ApiError `unauthenticated` when there is none, or it is malformed, or an API key where these are refused.
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
  let hasAccepted = false;
  let otherIssuer: string | undefined;

  /** @returns false where the realm is known to issue tokens that will be refused. */
  async function issuerFits(): Promise<boolean> {
    const other = (await askOtherIssuer(jwksUrl, issuer, fetchTimeoutMs))?.slice(0, 300);
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
        hasAccepted = true;
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
        !signal?.aborted && !(await issuerFits()) && !hasAccepted;
        pause = Math.min(pause * 2, 15_000)
      ) {
        await clock.sleep(pause, signal);
      }
    },
    ready: keys.ready,
    issuerFits: () => otherIssuer === undefined || hasAccepted,
  };
}
