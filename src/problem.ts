/** Owns the one error answer: whatever is thrown becomes problem+json (RFC 9457) with a stable code. */
import type { ErrorRequestHandler, Request } from 'express';
import { ApiError, type ErrorCode, type FieldError } from './errors.ts';
import type { Log } from './log.ts';
import { requestIdOf } from './middleware.ts';

/** What express' body parser and the contract's validator throw: an HTTP status, and for the latter the fields. */
interface HttpError {
  status?: unknown;
  type?: unknown;
  errors?: unknown;
}

/** The most wrong fields that one answer names. */
const maxFieldErrors = 50;

export function problemHandler(log: Log): ErrorRequestHandler {
  return (error: unknown, req, res, _next) => {
    const problem = toApiError(error, req);
    const about = { request_id: requestIdOf(res), method: req.method, code: problem.code };
    if (problem.status >= 500) {
      // A refusal for want of room or time is our answer, not our failure.
      const ours = problem.code === 'internal';
      log[ours ? 'error' : 'warn']({ ...about, err: problem.cause ?? problem, detail: problem.message }, 'refused');
    } else log.debug({ ...about, detail: problem.message }, 'refused');
    if (res.headersSent) {
      res.destroy();
      return;
    }
    if (problem.retryAfterSeconds !== undefined) res.set('Retry-After', String(Math.ceil(problem.retryAfterSeconds)));
    if (problem.status === 401) res.set('WWW-Authenticate', 'Bearer realm="irsa-svc", error="invalid_token"');
    res
      .status(problem.status)
      .type('application/problem+json')
      .send(
        JSON.stringify({
          type: `urn:irsa-svc:problem:${problem.code}`,
          title: titleOf(problem.code),
          status: problem.status,
          code: problem.code,
          detail: problem.message,
          request_id: requestIdOf(res),
          ...(problem.errors ? { errors: problem.errors } : {}),
        }),
      );
  };
}

/** The same for every problem of a code: `Grant pending`. */
function titleOf(code: ErrorCode): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function toApiError(error: unknown, req: Request): ApiError {
  if (error instanceof ApiError) return error;
  const { status, type, errors } = (typeof error === 'object' && error !== null ? error : {}) as HttpError;
  if (type === 'entity.too.large') return new ApiError('payload_too_large', 'The body is larger than this call takes.');
  if (type === 'entity.parse.failed')
    return invalid('The body is not valid JSON.', [{ path: '/body', message: 'not JSON' }]);
  if (status === 404) return new ApiError('not_found', 'There is no such call; /docs lists them.');
  if (status === 405) return new ApiError('method_not_allowed', 'This call does not take that method; see /docs.');
  if (status === 413) return new ApiError('payload_too_large', 'The body is larger than this call takes.');
  if (status === 415 && req.get('content-type') === undefined) {
    return invalid('This call needs a JSON body.', [{ path: '/body', message: 'missing' }]);
  }
  if (status === 415) return new ApiError('unsupported_media_type', 'The body must be application/json.');
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
    // A pattern says little to people; the contract has the form of each field in words.
    message: String(message ?? 'not valid')
      .replace(/^must match pattern .*$/s, 'not of the form that this field has; see /docs')
      .slice(0, 300),
  }));
}
