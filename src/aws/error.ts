/** Owns what can go wrong with a call to AWS, in words of our own. */

/**
 * What went wrong. Worth another try by itself: throttled, unavailable (nobody knows whether a write took), not_holder.
 * For a person to mend: the others, named as they are published.
 */
export const awsErrorCodes = [
  'throttled',
  'unavailable',
  'not_holder',
  'role_not_found',
  'malformed_trust_policy',
  'unmodifiable_role',
  'trust_policy_full',
  'trust_policy_open',
  'trust_policy_stricter',
  'access_denied',
  'pass_role_denied',
  'association_exists',
  'association_quota',
  'association_refused',
  'association_not_found',
  'cluster_not_found',
] as const;

export type AwsErrorCode = (typeof awsErrorCodes)[number];

/** `message` may be shown to users; what AWS said itself, which can name other principals, is in `said`. */
export class AwsError extends Error {
  readonly code: AwsErrorCode;
  readonly said: string | undefined;
  /** Whether another try may go better with nobody doing anything. */
  readonly transient: boolean;
  /** The quota in characters, where IAM named it. */
  readonly quota: number | undefined;

  constructor(code: AwsErrorCode, message: string, options: AwsErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'AwsError';
    this.code = code;
    this.transient = code === 'throttled' || code === 'unavailable' || code === 'not_holder';
    this.quota = options.quota;
    this.said = options.said;
  }
}

export interface AwsErrorOptions {
  quota?: number | undefined;
  said?: string | undefined;
  cause?: unknown;
}
