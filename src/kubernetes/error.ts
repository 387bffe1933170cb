/** Owns the errors of calls to the Kubernetes API server: their kinds, and the errors that clients get. Pure. */
import { ApiError } from '../lib/errors.ts';

/** not_found 404; conflict 409; refused: a person has to change something first; unavailable: a retry may help. */
export type KubernetesErrorKind = 'not_found' | 'conflict' | 'refused' | 'unavailable';

export class KubernetesError extends Error {
  readonly kind: KubernetesErrorKind;
  readonly status: number | undefined;
  /** The API server's own message, one line; empty where there is none. */
  readonly said: string;
  /** The method and the object's path, `POST /api/v1/…/serviceaccounts/alice-sa`, where a call was made. */
  readonly call: string | undefined;

  constructor(kind: KubernetesErrorKind, message: string, status?: number, cause?: unknown, said = '', call?: string) {
    super(message, cause === undefined ? {} : { cause });
    this.name = 'KubernetesError';
    this.kind = kind;
    this.status = status;
    this.said = said;
    this.call = call;
  }
}

const maxSaid = 300;

/** Whether admission (a policy, a quota or a webhook) refused the call, so that a person has to act first. */
export function isRefused(error: unknown): error is KubernetesError {
  return error instanceof KubernetesError && error.kind === 'refused' && error.said !== '';
}

/** The error for the client: it says whether a retry helps, or who has to act. */
export function kubernetesUnavailable(cause: unknown): ApiError {
  if (isRefused(cause)) {
    const detail = `Kubernetes refuses ${cause.call ?? 'this'}, by a policy, a quota or a limit of its own, and asking again does not help. An administrator of the cluster has to act. It says: ${cause.said}`;
    return new ApiError('kubernetes_refused', detail, { cause });
  }
  return new ApiError('kubernetes_unavailable', 'The Kubernetes API server did not answer as it should. Try again.', {
    cause,
  });
}

/** Makes calls to Kubernetes for a client. @throws ApiError as `kubernetesUnavailable` makes it, where one fails. */
export async function orUnavailable<T>(calls: () => Promise<T>): Promise<T> {
  try {
    return await calls();
  } catch (error) {
    throw kubernetesUnavailable(error);
  }
}

/** @param said the message of the answer's Status, see `saidBy`. */
export function kindOf(status: number, said: string, isWrite: boolean): KubernetesErrorKind {
  if (status === 404) return 'not_found';
  if (status === 409) return 'conflict';
  // Admission checks only writes.
  if (!isWrite) return 'unavailable';
  // RBAC's 403, like a 401, comes and goes with token rotation and changes of permissions. A 403 without a message is a
  // proxy's, not an API server's. Any other 403 is admission's (quotas, policies, webhooks).
  if (status === 403) return said === '' || isRbac(said) ? 'unavailable' : 'refused';
  // 410: the page of a list was requested too late; a new list works.
  const isPassing = [401, 408, 410, 425, 429].includes(status);
  return isPassing || status >= 500 || status < 300 ? 'unavailable' : 'refused';
}

/** https://github.com/kubernetes/kubernetes: `NewForbidden` of the authorization filter, with this text since 1.6. */
function isRbac(said: string): boolean {
  return /\bforbidden: User "[^"]*" cannot /.test(said);
}

/** The message of a Status object, cut to one line. @param parsed the parsed body. */
export function saidBy(parsed: unknown): string {
  const message = typeof parsed === 'object' && parsed !== null && 'message' in parsed ? parsed.message : undefined;
  if (typeof message !== 'string') return '';
  // Control characters, line breaks among them, would break a log line or a config file's comment.
  const line = message.replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, ' ').trim();
  return line.length > maxSaid ? `${line.slice(0, maxSaid - 1)}…` : line;
}

/** Whether another client changed or deleted the object first: it has to be read again. */
export function isMoved(error: unknown): boolean {
  return error instanceof KubernetesError && (error.kind === 'conflict' || error.kind === 'not_found');
}

/** @returns undefined where the API server has no such object. */
export async function unlessMissing<T>(get: () => Promise<T>): Promise<T | undefined> {
  try {
    return await get();
  } catch (error) {
    if (error instanceof KubernetesError && error.kind === 'not_found') return undefined;
    throw error;
  }
}
