/** Owns calls to the service: sends the viewer's token with each, and turns refusals into errors. */
import { signal } from '@preact/signals';
import { session, tokenRefused } from './session.ts';
import type { ConsoleConfig, ProxyRole, TrustStatus } from './types.ts';

/** A call that was refused, or had no answer. */
export class CallError extends Error {
  readonly status: number;
  readonly code: string;
  readonly requestId: string;
  constructor(status: number, code: string, detail: string, requestId = '') {
    super(detail);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
  }
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface CallOptions {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  readonly query?: Query;
  readonly body?: unknown;
  readonly signal?: AbortSignal | undefined;
}

/** Builds a URL of the service relative to the console's own, so that it also works below a proxy's path. */
function urlOf(path: string, query: Query = {}): URL {
  const url = new URL(path, new URL('.', location.href));
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== '') url.searchParams.set(name, String(value));
  }
  return url;
}

/** Longer than any call of the service takes. */
const timeoutMs = 60_000;

/** @param path without a leading slash. @throws CallError */
export function call<T>(path: string, options: CallOptions = {}): Promise<T> {
  return attempt(path, options, false);
}

async function attempt<T>(path: string, options: CallOptions, isSecond: boolean): Promise<T> {
  const { method = 'GET', query, body, signal: abort } = options;
  const sent = session.peek();
  const headers: Record<string, string> = sent ? { Authorization: `Bearer ${sent.token}` } : {};
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const timeout = AbortSignal.timeout(timeoutMs);
  const response = await fetch(urlOf(path, query), {
    method,
    headers,
    cache: 'no-store',
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    signal: abort ? AbortSignal.any([abort, timeout]) : timeout,
  }).catch((error: unknown) => {
    if (abort?.aborted) throw error;
    throw new CallError(0, 'no_answer', 'The service did not answer. Is it reachable?');
  });
  const answer = (await response.json().catch(() => ({}))) as Record<string, unknown>;
  if (response.ok) return answer as T;
  if (response.status === 401 && sent && (await tokenRefused(sent, isSecond))) return attempt(path, options, true);
  const { code = 'http_error', detail = `HTTP ${response.status}`, request_id: id = '' } = answer;
  throw new CallError(response.status, String(code), String(detail), String(id));
}

export const config = signal<ConsoleConfig | undefined>(undefined);

/** The address of an alert's section in the runbook; undefined where this installation has no address of a runbook. */
export function runbookLink(alert: string): string | undefined {
  const url = config.value?.runbook_url;
  return url ? `${url}#${alert.toLowerCase()}` : undefined;
}

/** Fetches every proxy role, page after page. @param onPart receives the roles fetched so far. @param only a filter of the roles. */
export async function allProxyRoles(
  onPart: (status: TrustStatus) => void,
  abort: AbortSignal,
  only: Query = {},
): Promise<TrustStatus> {
  const roles: ProxyRole[] = [];
  let first: TrustStatus | undefined;
  for (let cursor: string | undefined; ; ) {
    const query = { ...only, limit: 100, continue: cursor };
    const page = await call<TrustStatus>('trust_status', { query, signal: abort });
    first ??= page;
    roles.push(...page.proxy_roles);
    const { next, ...rest } = first;
    const status = { ...rest, proxy_roles: [...roles] };
    cursor = page.next;
    if (cursor === undefined) return status;
    onPart({ ...status, next: cursor });
  }
}
