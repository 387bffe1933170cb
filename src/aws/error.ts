/** Owns the errors of calls to AWS, with codes of our own. */

/**
 * What went wrong. The first three are transient, and a retry may work: throttled, unavailable (a write may have taken
 * effect), not_holder. The others need a person, and are published under these names.
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

/** `message` may be shown to users. AWS's own message is in `said`, since it can name other principals. */
export class AwsError extends Error {
  readonly code: AwsErrorCode;
  readonly said: string | undefined;
  /** Whether a retry may work without anyone changing something. */
  readonly transient: boolean;
  /** The quota in characters, where IAM's message has it. */
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
