/** Owns the errors that clients meet: stable codes, their HTTP status, and the public sentence apart from the cause. */

/** Code -> HTTP status. Clients match on the code; it never changes its meaning. */
export const statusOfCode = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  run_revoked: 403,
  not_found: 404,
  run_not_found: 404,
  mapping_not_found: 404,
  role_not_managed: 404,
  pod_identity_disabled: 404,
  service_account_not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  service_account_conflict: 409,
  shared_service_account: 409,
  payload_too_large: 413,
  unsupported_media_type: 415,
  too_many_requests: 429,
  internal: 500,
  domino_unavailable: 503,
  kubernetes_unavailable: 503,
  aws_unavailable: 503,
  grant_pending: 503,
  trust_policy_full: 503,
} as const;

export type ErrorCode = keyof typeof statusOfCode;

/** One wrong field of a request. */
export interface FieldError {
  /** Where it is: `/body/role_data/0/iam_role_arn`. */
  path: string;
  /** What is wrong with it, for people. */
  message: string;
}

export interface ApiErrorOptions {
  /** What went wrong inside; for the log, never for the client. */
  cause?: unknown;
  errors?: FieldError[];
  /** Seconds after which a retry makes sense; sent as `Retry-After`. 429 and 503 get one in any case. */
  retryAfterSeconds?: number;
}

/** An answer other than 2xx. `message` is public: it says what is wrong and what to do, and nothing internal. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly errors: FieldError[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'ApiError';
    this.code = code;
    this.status = statusOfCode[code];
    this.errors = options.errors;
    const retryable = this.status === 429 || this.status === 503;
    this.retryAfterSeconds = options.retryAfterSeconds ?? (retryable ? 2 : undefined);
  }
}
