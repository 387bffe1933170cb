/** Owns what can go wrong with a call to the Kubernetes API server, and what a client is told of it. Pure. */
import { ApiError } from '../lib/errors.ts';

/** not_found 404; conflict 409; refused: somebody has to change something first; unavailable: asking again may help. */
export type KubernetesErrorKind = 'not_found' | 'conflict' | 'refused' | 'unavailable';

export class KubernetesError extends Error {
  readonly kind: KubernetesErrorKind;
  readonly status: number | undefined;
  /** The API server's own words, one line; empty where it said nothing. */
  readonly said: string;
  /** The call and the object that it was made on, `POST /api/v1/…/serviceaccounts/alice-sa`, where a call was made. */
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

/** Whether a person has to act before Kubernetes does it: admission refused it. */
export function isRefused(error: unknown): error is KubernetesError {
  return error instanceof KubernetesError && error.kind === 'refused' && error.said !== '';
}

/** The error as a client may see it: whether asking again helps, or who has to act. */
export function kubernetesUnavailable(cause: unknown): ApiError {
  if (isRefused(cause)) {
    const detail = `Kubernetes refuses ${cause.call ?? 'this'}, by a policy, a quota or a limit of its own, and asking again does not help. An administrator of the cluster has to act. It says: ${cause.said}`;
    return new ApiError('kubernetes_refused', detail, { cause });
  }
  return new ApiError('kubernetes_unavailable', 'The Kubernetes API server did not answer as it should. Try again.', {
    cause,
  });
}

/** @param said what the answer's Status says, see `saidBy`. */
export function kindOf(status: number, said: string, isWrite: boolean): KubernetesErrorKind {
  if (status === 404) return 'not_found';
  if (status === 409) return 'conflict';
  // Admission looks at writes alone.
  if (!isWrite) return 'unavailable';
  // RBAC's 403, like a 401, comes and goes with token rotation and changes of permissions; an answer in which no API
  // server says anything is some proxy's. Admission (quotas, policies, webhooks) refuses with 403 in other words.
  if (status === 403) return said === '' || isRbac(said) ? 'unavailable' : 'refused';
  // 410: a page of a list is asked for too late, and the list can be asked for anew.
  const isPassing = [401, 408, 410, 425, 429].includes(status);
  return isPassing || status >= 500 || status < 300 ? 'unavailable' : 'refused';
}

/** https://github.com/kubernetes/kubernetes: `NewForbidden` of the authorization filter, the same words since 1.6. */
function isRbac(said: string): boolean {
  return /\bforbidden: User "[^"]*" cannot /.test(said);
}

/** The message of a Status object, as one bounded line. @param parsed the body as JSON. */
export function saidBy(parsed: unknown): string {
  const message = typeof parsed === 'object' && parsed !== null && 'message' in parsed ? parsed.message : undefined;
  if (typeof message !== 'string') return '';
  // Control characters, line breaks among them, would break a log line or a config file's comment.
  const line = message.replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, ' ').trim();
  return line.length > maxSaid ? `${line.slice(0, maxSaid - 1)}…` : line;
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
