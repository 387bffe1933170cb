/** Owns the errors that clients get: their stable codes, status, remedy, and public message, with the cause apart. */

/** Code -> HTTP status. Clients match on the code, so its meaning never changes. */
export const statusOfCode = {
  invalid_request: 400,
  unauthenticated: 401,
  forbidden: 403,
  run_revoked: 403,
  not_found: 404,
  run_not_found: 404,
  user_not_found: 404,
  mapping_not_found: 404,
  role_not_managed: 404,
  pod_identity_disabled: 404,
  service_account_not_found: 404,
  method_not_allowed: 405,
  request_timeout: 408,
  conflict: 409,
  service_account_conflict: 409,
  shared_service_account: 409,
  too_many_roles: 409,
  kubernetes_refused: 409,
  payload_too_large: 413,
  unsupported_media_type: 415,
  expectation_failed: 417,
  too_many_requests: 429,
  headers_too_large: 431,
  internal: 500,
  domino_unavailable: 503,
  kubernetes_unavailable: 503,
  aws_unavailable: 503,
  grant_pending: 503,
  trust_policy_full: 503,
} as const;

export type ErrorCode = keyof typeof statusOfCode;

/** Code -> its meaning and the remedy, for docs/errors.md. */
export const remedyOfCode: Readonly<Record<ErrorCode, string>> = {
  invalid_request: 'The request does not match the contract. `errors` names each wrong field.',
  unauthenticated: '`detail` says why the credential is refused. Get a fresh token: Domino’s last five minutes.',
  forbidden: 'The call is for Domino administrators.',
  run_revoked: 'An administrator revoked this run. Ask to have it allowed again, or start another run.',
  not_found: 'The path does not exist. Check it against `/docs`.',
  run_not_found:
    'You have no live pod of that run. Check the id, and that you started it; a new pod shows within seconds.',
  user_not_found:
    'Nothing is known of a user of this name or id: no live run, no role request, no recent call. Check the name.',
  mapping_not_found: 'The organization, or the user, has no mapping.',
  role_not_managed: 'No mapping names this proxy role with a trust policy that the service manages.',
  pod_identity_disabled: 'This installation does not use Pod Identity: `EKS_CLUSTER_NAME` is not set.',
  service_account_not_found: 'The service account does not exist. Check its name.',
  method_not_allowed: 'The path has no such method. Check it against `/docs`.',
  request_timeout: 'Send the headers within 10 s, and the whole request within 30 s.',
  conflict: 'Other requests kept changing the mappings, so nothing was changed. Try again.',
  service_account_conflict:
    'The service account exists, and was made by another tool or for another user. Choose another name.',
  shared_service_account: 'Pods of several people use this service account. Give each person an account of their own.',
  too_many_roles: 'The user has more roles than fit on a service account. An administrator has to map fewer.',
  kubernetes_refused:
    'A quota or policy of the cluster refuses the write. An administrator has to act; `detail` says on what.',
  payload_too_large: 'Send less: at most 2 KiB, or the `x-max-body-bytes` of the call in the contract.',
  unsupported_media_type: 'Send JSON, as `application/json` in UTF-8, not compressed.',
  expectation_failed: 'Send no `Expect` but `100-continue`.',
  too_many_requests: 'Wait for `Retry-After`. The limit is `RATE_LIMIT_PER_MINUTE`.',
  headers_too_large:
    'Keep headers under 32 KiB and the token under 28 KiB: a user with fewer realm roles has a shorter one.',
  internal: 'A fault of the service. Give an administrator the `request_id`: the log has the cause.',
  domino_unavailable: 'Domino does not answer. Try again after `Retry-After`; roles that work go on working.',
  kubernetes_unavailable:
    'The API server does not answer, or the replica has just started. Try again after `Retry-After`.',
  aws_unavailable: 'The service does not know its AWS account yet. Try again after `Retry-After`.',
  grant_pending: 'The role request is stored, and IAM has not confirmed it yet. Try again after `Retry-After`.',
  trust_policy_full:
    'No proxy role has room for the run. Try again when another run has ended, or have the pool enlarged.',
};

/** One wrong field of a request. */
export interface FieldError {
  /** The field: `/body/role_data/0/iam_role_arn`. */
  path: string;
  /** What is wrong with the field, for people. */
  message: string;
}

export interface ApiErrorOptions {
  /** The internal cause, for the log and never for the client. */
  cause?: unknown;
  errors?: FieldError[];
  /** The path's methods; sent as `Allow`. */
  allow?: readonly string[];
  /** Seconds after which a retry makes sense; sent as `Retry-After`. 429 and 503 get one in any case. */
  retryAfterSeconds?: number;
}

/** An answer other than 2xx. `message` is public: it says what is wrong and what to do, without internals. */
export class ApiError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly errors: FieldError[] | undefined;
  readonly allow: readonly string[] | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: ApiErrorOptions = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.name = 'ApiError';
    this.code = code;
    this.status = statusOfCode[code];
    this.errors = options.errors;
    this.allow = options.allow;
    const retryable = this.status === 429 || this.status === 503;
    this.retryAfterSeconds = options.retryAfterSeconds ?? (retryable ? 2 : undefined);
  }
}
