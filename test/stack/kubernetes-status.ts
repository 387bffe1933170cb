/** Owns the Kubernetes stand-in's refusals: Status objects with the codes, reasons and words of the real API server. */
import type { Kind } from './kubernetes-kinds.ts';

/** One invalid field of an object, for a 422. */
export interface Cause {
  /** `FieldValueInvalid` unless given. */
  readonly reason?: string;
  readonly field: string;
  readonly message: string;
}

const reasonOfCode: Record<number, string> = {
  400: 'BadRequest',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'NotFound',
  405: 'MethodNotAllowed',
  409: 'Conflict',
  410: 'Expired',
  413: 'RequestEntityTooLarge',
  415: 'UnsupportedMediaType',
  422: 'Invalid',
  429: 'TooManyRequests',
  500: 'InternalError',
  503: 'ServiceUnavailable',
  504: 'Timeout',
};

/** Thrown anywhere below the HTTP handler, which sends it as the answer. */
export class StatusError extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: Record<string, unknown> | undefined;

  constructor(code: number, message: string, reason = reasonOfCode[code] ?? '', details?: Record<string, unknown>) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  body(): Record<string, unknown> {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Failure',
      message: this.message,
      ...(this.reason === '' ? {} : { reason: this.reason }),
      ...(this.details ? { details: this.details } : {}),
      code: this.code,
    };
  }
}

type Named = Pick<Kind, 'group' | 'kind' | 'plural'>;

function about(kind: Named, name: string): Record<string, unknown> {
  return { name, ...(kind.group === '' ? {} : { group: kind.group }), kind: kind.plural };
}

/** `pods`, or `leases.coordination.k8s.io`. */
export function qualified(kind: Kind): string {
  return kind.group === '' ? kind.plural : `${kind.plural}.${kind.group}`;
}

export function notFound(kind: Kind, name: string): StatusError {
  return new StatusError(404, `${qualified(kind)} "${name}" not found`, 'NotFound', about(kind, name));
}

export function alreadyExists(kind: Kind, name: string): StatusError {
  return new StatusError(409, `${qualified(kind)} "${name}" already exists`, 'AlreadyExists', about(kind, name));
}

export function conflict(kind: Kind, name: string, precondition?: string): StatusError {
  const why = 'the object has been modified; please apply your changes to the latest version and try again';
  // The real API server names the kind in a failed precondition, else the resource.
  const what = precondition === undefined ? qualified(kind) : kind.kind;
  const message = `Operation cannot be fulfilled on ${what} "${name}": ${precondition ?? why}`;
  return new StatusError(409, message, 'Conflict', about(kind, name));
}

export function invalid(kind: Named, name: string, causes: readonly Cause[]): StatusError {
  const each = causes.map(({ field, message }) => `${field}: ${message}`);
  const list = each.length === 1 ? each[0] : `[${each.join(', ')}]`;
  const full = kind.group === '' ? kind.kind : `${kind.kind}.${kind.group}`;
  return new StatusError(422, `${full} "${name}" is invalid: ${list}`, 'Invalid', {
    ...about(kind, name),
    kind: kind.kind,
    causes: causes.map((cause) => ({ reason: 'FieldValueInvalid', ...cause })),
  });
}

export function badRequest(message: string): StatusError {
  return new StatusError(400, message);
}

export function tooOld(version: number, oldest: number): StatusError {
  return new StatusError(410, `too old resource version: ${version} (${oldest})`, 'Expired');
}

export function noSuchPath(): StatusError {
  return new StatusError(404, 'the server could not find the requested resource', 'NotFound', {});
}
