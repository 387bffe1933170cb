/** Owns the error handler: it turns every error into problem+json (RFC 9457) with a stable code. */
import type { ErrorRequestHandler, Request } from 'express';
import { ApiError, type ErrorCode, type FieldError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { closeIfUnread } from './body.ts';
import { requestIdOf } from './middleware.ts';

/** The most wrong fields that one answer names. */
const maxFieldErrors = 50;

export function problemHandler(log: Log): ErrorRequestHandler {
  return (error: unknown, req, res, _next) => {
    const problem = toApiError(error);
    const about = { request_id: requestIdOf(res), method: req.method, code: problem.code };
    if (problem.code === 'kubernetes_refused') {
      log.error({ ...about, err: problem.cause, detail: problem.message }, 'Kubernetes refuses what was asked for');
    } else if (problem.status >= 500) {
      // Only `internal` is a fault of the service. Other 5xx codes report a full role, a timeout or a failed peer.
      const isFault = problem.code === 'internal';
      log[isFault ? 'error' : 'warn']({ ...about, err: problem.cause ?? problem, detail: problem.message }, 'refused');
    } else log.debug({ ...about, detail: problem.message }, 'refused');
    if (res.headersSent) {
      res.destroy();
      return;
    }
    if (problem.retryAfterSeconds !== undefined) res.set('Retry-After', String(Math.ceil(problem.retryAfterSeconds)));
    if (problem.status === 401) res.set('WWW-Authenticate', challengeFor(req));
    if (problem.allow) res.set('Allow', problem.allow.join(', '));
    res.set('Cache-Control', 'no-store');
    closeIfUnread(req, res);
    res
      .status(problem.status)
      .type(problemType)
      .send(problemText(problem, requestIdOf(res)));
  };
}

export const problemType = 'application/problem+json';

export function problemText(problem: ApiError, requestId: string): string {
  return JSON.stringify({
    type: `urn:irsa-svc:problem:${problem.code}`,
    title: titleOf(problem.code),
    status: problem.status,
    code: problem.code,
    detail: problem.message,
    request_id: requestId,
    ...(problem.errors ? { errors: problem.errors } : {}),
  });
}

/** RFC 6750 section 3.1: a request without a credential gets no error code. */
function challengeFor({ headers }: Request): string {
  const none = headers.authorization === undefined && headers['x-domino-api-key'] === undefined;
  return `Bearer realm="irsa-svc"${none ? '' : ', error="invalid_token"'}`;
}

/** Made from the code, so that all problems of a code share it: `Grant pending`. */
function titleOf(code: ErrorCode): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  // Express and the contract's validator throw errors with an HTTP status; the validator adds the wrong fields.
  const { status, errors } = Object(error) as { status?: unknown; errors?: unknown };
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return invalid('The request does not fit the contract; see /docs.', fieldErrors(errors));
  }
  return new ApiError('internal', 'Something went wrong here; the request id leads to the log.', { cause: error });
}

function invalid(message: string, errors: FieldError[]): ApiError {
  return new ApiError('invalid_request', message, { errors: errors.length > 0 ? errors : [{ path: '/', message }] });
}

function fieldErrors(errors: unknown): FieldError[] {
  if (!Array.isArray(errors)) return [];
  return (errors as { path?: unknown; message?: unknown }[]).slice(0, maxFieldErrors).map(({ path, message }) => ({
    path: String(path ?? '/').slice(0, 200),
    // People cannot read a pattern; the contract describes each field in words.
    message: String(message ?? 'not valid')
      .replace(/^must match pattern .*$/s, 'not of the form that this field has; see /docs')
      .slice(0, 300),
  }));
}
