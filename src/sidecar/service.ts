/** Owns the call to the IRSA service: one request, and what its refusals mean. */
import type { Clock } from '../clock.ts';
import type { ErrorCode } from '../errors.ts';
import type { Log } from '../log.ts';
import { type Answer, Broken, type BrokenKind, exchange } from './exchange.ts';
import { Failure, type FailureCode, oneLine } from './failure.ts';
import type { RunIdentity } from './labels.ts';
import { readTrust, withTrust } from './trust.ts';

export interface ServiceCall {
  endpoint: string;
  certFile: string | undefined;
  tlsVerify: boolean;
  deadlineMs: number;
  identity: RunIdentity;
  token: string;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

/** @returns the AWS config file's text. @throws Failure */
export async function askService(call: ServiceCall): Promise<string> {
  const { clock, log } = call;
  if (!call.tlsVerify) {
    log.warn('IRSA_TLS_VERIFY=false: whoever answers in the place of the IRSA service gets the token');
  }
  const answer = await post(call).catch((error: unknown) => {
    if (!(error instanceof Broken)) throw error;
    throw new Failure(failureOfBroken[error.kind], { detail: error.code, cause: error });
  });
  if (answer.status === 200) return answer.text;
  throw refusal(answer, clock.now());
}

async function post(call: ServiceCall): Promise<Answer> {
  const { endpoint: url, deadlineMs, identity, clock, log, signal } = call;
  const headers = {
    authorization: `Bearer ${call.token}`,
    'content-type': 'application/json',
    accept: 'text/plain, application/problem+json',
    'user-agent': 'irsa-svc-sidecar',
  };
  const body = JSON.stringify({ run_id: identity.run, irsa_workload_type: identity.workloadType });
  const request = { url, method: 'POST' as const, headers, body, deadlineMs, clock, signal };
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
};

/** The service's stable codes first; where something else answered, its status. */
const failureOfCode: Partial<Record<ErrorCode, FailureCode>> = {
  invalid_request: 'invalid_request',
  unauthenticated: 'unauthenticated',
  forbidden: 'forbidden',
  run_revoked: 'run_revoked',
  not_found: 'endpoint_not_found',
  run_not_found: 'run_not_found',
  shared_service_account: 'shared_service_account',
  too_many_requests: 'too_many_requests',
  grant_pending: 'grant_pending',
  trust_policy_full: 'trust_policy_full',
  internal: 'service_failed',
};
const failureOfStatus: Record<number, FailureCode> = {
  400: 'invalid_request',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'endpoint_not_found',
  429: 'too_many_requests',
  503: 'service_unavailable',
};

function refusal({ status, headers, text }: Answer, now: number): Failure {
  const problem = readProblem(text);
  const known = Object.hasOwn(failureOfCode, problem.code) ? failureOfCode[problem.code as ErrorCode] : undefined;
  const otherwise = status >= 500 ? 'service_failed' : 'unexpected_answer';
  const said = [`HTTP ${status}`, problem.detail, problem.requestId && `request id ${problem.requestId}`];
  return new Failure(known ?? failureOfStatus[status] ?? otherwise, {
    detail: said.filter(Boolean).join(', '),
    retryAfterSeconds: retryAfter(headers['retry-after'], now),
  });
}

function readProblem(text: string): { code: string; detail: string; requestId: string } {
  const none = { code: '', detail: '', requestId: '' };
  try {
    const body: unknown = JSON.parse(text);
    if (typeof body !== 'object' || body === null) return none;
    const field = (name: string) => {
      const value = (body as Record<string, unknown>)[name];
      return typeof value === 'string' ? oneLine(value).replace(/\.$/, '') : '';
    };
    return { code: field('code'), detail: field('detail'), requestId: field('request_id') };
  } catch {
    return none;
  }
}

/** Longer than any service means: a mistaken header must not put the side-car to sleep for days. */
const longestSeconds = 900;

/** Seconds from `Retry-After`, a number or a date (RFC 9110 section 10.2.3). */
export function retryAfter(header: string | undefined, now: number): number | undefined {
  if (header === undefined) return undefined;
  const seconds = /^\s*\d+\s*$/.test(header) ? Number(header) : (Date.parse(header) - now) / 1000;
  return Number.isFinite(seconds) ? Math.min(longestSeconds, Math.max(0, seconds)) : undefined;
}
