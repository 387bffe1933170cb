/** Owns calls to the IRSA service: sends a request, and turns refusals into failures of the sidecar. */
import type { Clock } from '../lib/clock.ts';
import type { ErrorCode } from '../lib/errors.ts';
import { jsonFields } from '../lib/json.ts';
import type { Log } from '../lib/log.ts';
import { Broken, type BrokenKind } from './broken.ts';
import { type Answer, exchange } from './exchange.ts';
import { Failure, type FailureCode, oneLine } from './failure.ts';
import type { RunIdentity } from './labels.ts';
import { readTrust, withTrust } from './trusted-cas.ts';

export interface ServiceCall {
  endpoint: string;
  certFile: string | undefined;
  tlsVerify: boolean;
  deadlineMs: number;
  identity: RunIdentity;
  /** Whether this sidecar keeps role tokens. */
  roleTokens?: boolean;
  token: string;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

/** Larger than any AWS config file. */
const maxBytes = 1024 * 1024;

/** @returns the AWS config file's text. @throws Failure */
export async function askService(call: ServiceCall): Promise<string> {
  if (!call.tlsVerify) {
    call.log.warn('IRSA_TLS_VERIFY=false: a server that pretends to be the IRSA service would get the token');
  }
  return await answered(call, 'POST');
}

/** @returns the service's report on this run's roles, which costs no call to AWS; undefined where the endpoint has another path. @throws Failure */
export async function askAccess(call: ServiceCall): Promise<string | undefined> {
  const endpoint = call.endpoint.replace(/\/map_iam_roles_to_pod_sa$/, `/my_access?run_id=${call.identity.run}`);
  return endpoint === call.endpoint ? undefined : await answered({ ...call, endpoint }, 'GET');
}

export interface RoleTokenAnswer {
  tokens: { profile: string; token: string; expiresAt: number }[];
  refused: { profile: string; code: string }[];
}

/** Fetches this pod's tokens for roles with carrier `token`. @throws Failure */
export async function askRoleTokens(call: ServiceCall, pod: string): Promise<RoleTokenAnswer> {
  const endpoint = call.endpoint.replace(/\/map_iam_roles_to_pod_sa$/, '/role_tokens');
  return readTokens(await answered({ ...call, endpoint }, 'POST', { run_id: call.identity.run, pod }));
}

export const tokenForm = /^[\w-]+\.[\w-]+\.[\w-]+$/;

/** An answer without the form of tokens comes from another program; the failure shows none of its text. */
function readTokens(text: string): RoleTokenAnswer {
  const wrong = new Failure('unexpected_answer', { detail: 'it holds no role tokens' });
  const listOf = (value: unknown): Record<string, unknown>[] => {
    if (!Array.isArray(value) || value.some((one) => typeof one !== 'object' || one === null)) throw wrong;
    return value;
  };
  const body = jsonFields(text);
  const tokens = listOf(body.tokens).map(({ profile, token, expires_at: end }) => {
    const expiresAt = Date.parse(String(end));
    if (typeof profile !== 'string' || typeof token !== 'string') throw wrong;
    if (!tokenForm.test(token) || Number.isNaN(expiresAt)) throw wrong;
    return { profile, token, expiresAt };
  });
  const refused = listOf(body.refused).map(({ profile, code }) => {
    return { profile: oneLine(String(profile), 80), code: oneLine(String(code), 40) };
  });
  return { tokens, refused };
}

/** @returns the text of an answer with status 200. @throws Failure, with the `answer` where there was one. */
async function answered(call: ServiceCall, method: 'GET' | 'POST', content?: object): Promise<string> {
  const answer = await send(call, method, content).catch((error: unknown) => {
    if (!(error instanceof Broken)) throw error;
    throw new Failure(failureOfBroken[error.kind], { detail: error.code, cause: error });
  });
  if (answer.status === 200) return answer.text;
  throw refusal(`${method} ${call.endpoint}`, answer, call.clock.now());
}

async function send(call: ServiceCall, method: 'GET' | 'POST', content?: object): Promise<Answer> {
  const { endpoint: url, deadlineMs, identity, clock, log, signal } = call;
  const headers = {
    authorization: `Bearer ${call.token}`,
    accept: 'text/plain, application/json, application/problem+json',
    'user-agent': 'irsa-svc-sidecar',
    ...(method === 'POST' ? { 'content-type': 'application/json' } : {}),
  };
  const asked = { run_id: identity.run, irsa_workload_type: identity.workloadType };
  const body = JSON.stringify(content ?? { ...asked, ...(call.roleTokens ? { role_tokens: true } : {}) });
  const sent = method === 'POST' ? { body } : {};
  const request = { url, method, headers, ...sent, deadlineMs, maxBytes, clock, signal };
  if (!url.startsWith('https:')) return await exchange(request);
  if (!call.tlsVerify) return await exchange({ ...request, tls: { rejectUnauthorized: false } });
  const trust = readTrust(call.certFile);
  if (trust.problem !== undefined) log.warn({ problem: trust.problem }, 'only the CAs of the system are trusted');
  return await withTrust(trust, (secureContext) => exchange({ ...request, tls: { secureContext } }));
}

const failureOfBroken: Record<BrokenKind, FailureCode> = {
  timeout: 'service_timeout',
  unknown_host: 'service_unknown_host',
  unreachable: 'service_unreachable',
  certificate: 'certificate_refused',
  tls: 'tls_failed',
  cut: 'connection_cut',
  too_long: 'unexpected_answer',
  // The service is inside the cluster, so the sidecar uses no forward proxy for it.
  proxy: 'service_unreachable',
};

/** Every stable code of the service. For `undefined`, and for an unknown code, the HTTP status decides. */
const failureOfCode: Record<ErrorCode, FailureCode | undefined> = {
  invalid_request: 'invalid_request',
  unauthenticated: 'unauthenticated',
  forbidden: 'forbidden',
  run_revoked: 'run_revoked',
  not_found: 'endpoint_not_found',
  method_not_allowed: 'endpoint_not_found',
  run_not_found: 'run_not_found',
  shared_service_account: 'shared_service_account',
  too_many_roles: 'too_many_roles',
  kubernetes_refused: 'kubernetes_refused',
  too_many_requests: 'too_many_requests',
  request_timeout: 'service_timeout',
  grant_pending: 'grant_pending',
  trust_policy_full: 'trust_policy_full',
  internal: 'service_failed',
  domino_unavailable: undefined,
  kubernetes_unavailable: undefined,
  aws_unavailable: undefined,
  // Answers to requests of a form that the sidecar does not send.
  payload_too_large: 'invalid_request',
  unsupported_media_type: 'invalid_request',
  expectation_failed: 'invalid_request',
  headers_too_large: 'invalid_request',
  // Answers to calls that the sidecar does not make.
  user_not_found: undefined,
  mapping_not_found: undefined,
  role_not_managed: undefined,
  pod_identity_disabled: undefined,
  service_account_not_found: undefined,
  conflict: undefined,
  service_account_conflict: undefined,
};
const failureOfStatus: Record<number, FailureCode> = {
  400: 'invalid_request',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'endpoint_not_found',
  429: 'too_many_requests',
  503: 'service_unavailable',
};

function refusal(asked: string, { status, headers, text }: Answer, now: number): Failure {
  const problem = readProblem(text);
  const known = Object.hasOwn(failureOfCode, problem.code) ? failureOfCode[problem.code as ErrorCode] : undefined;
  const otherwise = status >= 500 ? 'service_failed' : 'unexpected_answer';
  const said = [`HTTP ${status}`, problem.detail, problem.requestId && `request id ${problem.requestId}`, asked];
  return new Failure(known ?? failureOfStatus[status] ?? otherwise, {
    detail: said.filter(Boolean).join(', '),
    retryAfterSeconds: retryAfter(headers['retry-after'], now),
    answer: { status, code: problem.code },
  });
}

function readProblem(text: string): { code: string; detail: string; requestId: string } {
  const { code, detail, request_id: requestId } = jsonFields(text);
  const said = (value: unknown) => (typeof value === 'string' ? oneLine(value).replace(/\.$/, '') : '');
  return { code: said(code), detail: said(detail), requestId: said(requestId) };
}

/** A limit on waiting: a mistaken header must not make the sidecar wait for days. */
const longestSeconds = 900;

/** The seconds in `Retry-After`, which is a number or a date (RFC 9110 section 10.2.3). */
export function retryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.min(longestSeconds, Math.max(0, seconds)) : undefined;
}
