/** Owns the failures of the sidecar: each has a stable code, and tells a data scientist what happened and what to do. */

/** Code -> what happened, and what to do. Codes never change their meaning; the texts may. */
const words = {
  run_unknown: [
    'The sidecar cannot tell which run this is: the pod labels name none',
    'Ask your administrator to check the labels volume (POD_INFO_PATH) of the Domino mutation.',
  ],
  token_proxy_unreachable: [
    "Domino's token proxy in this workload does not answer",
    'It may still be starting. If this lasts, restart the workload; then ask your administrator (DOMINO_API_PROXY).',
  ],
  token_proxy_failed: [
    "Domino's token proxy in this workload gave no usable token",
    'If this lasts, restart the workload; then ask your administrator (DOMINO_API_PROXY).',
  ],
  service_unknown_host: [
    'The name of the IRSA service is not known in this cluster',
    'Ask your administrator whether the IRSA service is installed and DOMINO_IRSA_ENDPOINT is right.',
  ],
  service_unreachable: [
    'The IRSA service cannot be reached',
    'It may be restarting; the sidecar keeps trying. If this lasts, tell your administrator.',
  ],
  service_timeout: [
    'The IRSA service did not answer in time',
    'It may be busy; the sidecar keeps trying. If this lasts, tell your administrator.',
  ],
  connection_cut: [
    'The connection to the IRSA service was cut before its answer was complete',
    'It may be restarting; the sidecar keeps trying. If this lasts, tell your administrator.',
  ],
  certificate_refused: [
    'The IRSA service showed a certificate that this workload does not trust, so nothing was sent to it',
    'Ask your administrator to compare the certificate of the IRSA service with DOMINO_IRSA_SSL_CERT.',
  ],
  tls_failed: [
    'No secure connection to the IRSA service could be made',
    'Ask your administrator whether DOMINO_IRSA_ENDPOINT leads to the HTTPS port of the IRSA service.',
  ],
  invalid_request: [
    'The IRSA service did not understand the request',
    'Ask your administrator whether the sidecar and the IRSA service are of the same release.',
  ],
  unauthenticated: [
    'The IRSA service did not accept your Domino token',
    'A new token is tried each time. If this lasts, restart the workload; then ask your administrator (DOMINO_ISSUER).',
  ],
  forbidden: [
    'The IRSA service does not allow you to do this',
    'Ask your administrator whether your user may use AWS roles from workloads.',
  ],
  run_revoked: [
    'An administrator has shut this run out of its AWS roles',
    'The message has the reason. Ask your administrator to allow the run again, or start another one.',
  ],
  run_not_found: [
    'The IRSA service does not see this run yet, or another user started it',
    'A new run shows within seconds. If this lasts, restart the workload under your own user.',
  ],
  endpoint_not_found: [
    'The address of the IRSA service leads somewhere else',
    'Ask your administrator to check DOMINO_IRSA_ENDPOINT: it ends in /map_iam_roles_to_pod_sa.',
  ],
  shared_service_account: [
    'This run shares its service account with runs of another user, so it can have no roles of its own',
    'Ask your administrator for a service account of your own; end the other runs until then.',
  ],
  too_many_roles: [
    'You have more AWS roles than one run can carry',
    'Ask your administrator to map fewer roles to your organizations: another try does not help.',
  ],
  kubernetes_refused: [
    'Kubernetes refuses to record the role request of this run',
    'The message has the reason: a quota or policy of the cluster. Ask your administrator to have it changed.',
  ],
  too_many_requests: [
    'The IRSA service gets too many requests from you just now',
    'Nothing to do: the sidecar waits as long as it was asked to.',
  ],
  grant_pending: [
    'The IRSA service is still writing your roles into AWS',
    'Nothing to do: the sidecar asks again shortly.',
  ],
  trust_policy_full: [
    'The AWS roles have no room left for this run',
    'End runs that you do not need, or ask your administrator for another proxy role or a larger quota.',
  ],
  service_unavailable: [
    'The IRSA service cannot do its work just now',
    'Nothing to do: the sidecar keeps trying. If this lasts, tell your administrator.',
  ],
  service_failed: [
    'The IRSA service failed',
    'The sidecar keeps trying. If this lasts, give your administrator the request id, if there is one.',
  ],
  unexpected_answer: [
    'Something other than the IRSA service answered, so its answer was not used',
    'Ask your administrator to check DOMINO_IRSA_ENDPOINT, and proxies on the way.',
  ],
  config_refused: [
    'The answer of the IRSA service has a setting that its config files never have, so it was not used',
    'Tell your administrator at once: the service may be of another release, or compromised.',
  ],
  disk_full: [
    'The AWS config file could not be written, since its disk is full; the old file is whole and in its place',
    'Ask your administrator for a larger volume for AWS_CONFIG_FILE.',
  ],
  config_not_writable: [
    'The AWS config file could not be written; the old file, if there was one, is whole and in its place',
    'Ask your administrator whether the sidecar may write to the folder of AWS_CONFIG_FILE.',
  ],
  sessions_not_writable: [
    'The sessions of your AWS roles could not be written',
    'Ask your administrator whether the sidecar may write to the folder of IRSA_CREDENTIALS_DIR, and whether it is full.',
  ],
  tokens_not_writable: [
    'The tokens of your AWS roles could not be written',
    'Ask your administrator whether the sidecar may write to the folder of ROLE_TOKEN_DIR, and whether it is full.',
  ],
  not_proved: [
    'The AWS config file is written, but AWS does not let this run use all of its roles',
    'Roles that the profiles list shows as proved work. For the others it says what to do; give your administrator this message.',
  ],
  internal: ['The sidecar failed in an unexpected way', 'Give your administrator the log of the sidecar.'],
} as const;

export type FailureCode = keyof typeof words;

export interface FailureOptions {
  /** Details of this failure, safe to show: an HTTP status, the service's own sentence, a system error's code. */
  detail?: string | undefined;
  cause?: unknown;
  /** How long the server asked to wait. */
  retryAfterSeconds?: number | undefined;
  answer?: Answered | undefined;
}

/** The service's answer: its HTTP status, and its code, empty where the answer has none. */
export interface Answered {
  readonly status: number;
  readonly code: string;
}

/** Why a round failed. `message` and `advice` are for people, `code` for programs. */
export class Failure extends Error {
  readonly code: FailureCode;
  readonly advice: string;
  readonly retryAfterSeconds: number | undefined;
  readonly answer: Answered | undefined;

  constructor(code: FailureCode, { detail, cause, retryAfterSeconds, answer }: FailureOptions = {}) {
    const [what, advice] = words[code];
    super(detail === undefined ? `${what}.` : `${what} (${detail}).`, cause === undefined ? {} : { cause });
    this.name = 'Failure';
    this.code = code;
    this.advice = advice;
    this.retryAfterSeconds = retryAfterSeconds;
    this.answer = answer;
  }
}

/** Reduces text from another program to one printable line. */
export function oneLine(text: string, length = 300): string {
  const flat = text.replace(/[^\x20-\x7e]+/g, ' ').trim();
  return flat.length > length ? `${flat.slice(0, length)}...` : flat;
}

/** The code of a system error (`ENOSPC`, `ECONNRESET`), or its name. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name;
}
