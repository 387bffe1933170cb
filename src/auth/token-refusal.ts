/** Owns the refusal of bearer tokens: the public message, the reason for metrics, and a log line with a rate limit. */
import { errors, type JWTPayload } from 'jose';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

/** Why a token was refused. */
export type RefusalReason =
  | 'expired'
  | 'not_yet_valid'
  | 'issuer'
  | 'audience'
  | 'claims'
  | 'algorithm'
  | 'unknown_key'
  | 'signature'
  | 'type'
  | 'bound'
  | 'malformed';

const refusalPauseMs = 60_000;

/** A token was refused; `message` is public. */
export class Refused extends Error {
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string, cause?: string) {
    super(message, cause === undefined ? {} : { cause });
    this.reason = reason;
  }
}

/** RFC 9068 section 2.1 and RFC 8725 section 3.11. Keycloak sets `JWT` for every kind of token but logout tokens. */
const headerTypes = ['jwt', 'at+jwt', 'application/at+jwt', 'application/jwt'];

/**
 * The realm signs other tokens with the same keys. Programs that receive ID, logout and other tokens must not be able
 * to act as the user with them. Keycloak names the kind in the claim `typ`.
 * @throws Refused
 */
export function refuseOtherKinds(headerType: string | undefined, payload: JWTPayload): void {
  const type = payload.typ;
  const isOther = type !== undefined && (typeof type !== 'string' || type.toLowerCase() !== 'bearer');
  // A bound token needs a proof, which this service does not check: RFC 9449 section 7.2, RFC 8705 section 3.
  if (payload.cnf !== undefined || type === 'DPoP') {
    throw new Refused(
      'bound',
      'The token is bound to a key of its holder (DPoP or mutual TLS): send a plain bearer token.',
    );
  }
  if (isOther || (headerType !== undefined && !headerTypes.includes(headerType.toLowerCase()))) {
    throw new Refused('type', 'The token is not an access token: send the one that Domino gives as access token.');
  }
}

/** The refusal in public words. jose's errors contain claims and parts of the token: only code and message are kept. */
export function refusal(error: unknown, issuer: string): Refused {
  const cause = error instanceof errors.JOSEError ? `${error.code}: ${error.message}` : String(error);
  const [reason, message] = reasonOf(error, issuer);
  return new Refused(reason, message, cause);
}

function reasonOf(error: unknown, issuer: string): [RefusalReason, string] {
  if (error instanceof errors.JWTExpired) return ['expired', 'The token has expired: get a fresh one.'];
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim } = error;
    if (error.reason !== 'check_failed') return ['claims', `The token carries no valid "${claim}" claim.`];
    if (claim === 'nbf') {
      return ['not_yet_valid', 'The token is not yet valid: the clocks of its issuer and this service differ.'];
    }
    if (claim === 'iss') return ['issuer', `The token comes from another issuer: tokens of ${issuer} are accepted.`];
    if (claim === 'aud') return ['audience', 'The token is meant for another audience.'];
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return ['algorithm', 'The token is signed with an algorithm that is not allowed.'];
  }
  if (error instanceof errors.JWKSNoMatchingKey || error instanceof errors.JWKSMultipleMatchingKeys) {
    return ['unknown_key', `The token is signed with an unknown key: ${issuer} publishes none with its key id.`];
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) return ['signature', 'The token has a bad signature.'];
  return ['malformed', 'The token is malformed.'];
}

export interface RefusalsOptions {
  /** The required `iss`, to the letter. */
  issuer: string;
  clock: Clock;
  log?: Log;
  /** Called for each refused token. */
  onRefused?: (reason: RefusalReason) => void;
}

/** Logs one line a minute for each reason, with a count, since anyone can send any number of bad tokens. */
export function createRefusals({ clock, log, issuer, onRefused }: RefusalsOptions) {
  const since = new Map<RefusalReason, { at: number; more: number }>();
  return {
    report(reason: RefusalReason, error: unknown): void {
      onRefused?.(reason);
      const last = since.get(reason);
      if (last && clock.monotonic() - last.at < refusalPauseMs) {
        last.more += 1;
        return;
      }
      since.set(reason, { at: clock.monotonic(), more: 0 });
      const said = reason === 'issuer' ? { token_issuer: issuerOf(error), issuer } : {};
      // Expired tokens are normal: every client sends one now and then.
      const level = reason === 'expired' ? 'info' : 'warn';
      log?.[level]({ reason, not_logged_before: last?.more ?? 0, ...said }, 'a token was refused');
    },
  };
}

/** The token's issuer. Its signature was valid, so this is the name under which the realm issues tokens. */
function issuerOf(error: unknown): string | undefined {
  const iss = error instanceof errors.JWTClaimValidationFailed ? error.payload.iss : undefined;
  return typeof iss === 'string' ? iss.slice(0, 300) : undefined;
}
