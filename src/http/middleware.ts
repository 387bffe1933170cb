/** Owns the middleware of every call: its request id, log line and duration, the contract's rules for it, and the caller. */
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Request, RequestHandler, Response } from 'express';
import type { Caller, Callers } from '../auth/caller.ts';
import { type Credential, readCredential } from '../auth/token.ts';
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../lib/metrics.ts';
import { closeIfUnread } from './body.ts';
import type { Call, Contract } from './contract.ts';
import type { Sender } from './rate-limits.ts';

/** What the middleware stores in `res.locals` for the route. */
interface Locals {
  requestId?: string;
  caller?: Caller;
  /** The contract's call for this method and path, or the error where there is none. */
  call?: Call | ApiError;
  /** Set by `identify`: the credential with its sender, or why it is refused. */
  identity?: { credential: Credential; sender: Sender } | { refusal: unknown };
}

const localsOf = (res: Response): Locals => res.locals as Locals;

export function requestIdOf(res: Response): string {
  return localsOf(res).requestId ?? '';
}

/** @throws Error where the route is not behind `authenticate`, which is a bug. */
export function callerOf(res: Response): Caller {
  const { caller } = localsOf(res);
  if (!caller) throw new Error('a route without authentication asked for the caller');
  return caller;
}

/** @throws Error where the middleware is not behind `authorize`, which is a bug. */
export function callOf(res: Response): Call {
  const { call } = localsOf(res);
  if (!call || call instanceof ApiError) throw new Error('a layer without authorization asked for the call');
  return call;
}

export function isOpen(res: Response): boolean {
  const { call } = localsOf(res);
  return call !== undefined && !(call instanceof ApiError) && call.open;
}

export function senderOf(res: Response): Sender {
  const { identity } = localsOf(res);
  return identity && 'sender' in identity ? identity.sender : { kind: 'refused' };
}

/** Whether the caller asks for a dry run. The contract check has made sure that the parameter is a boolean. */
export function isDryRun(req: Request): boolean {
  return String(req.query.dry_run) === 'true';
}

/** Aborted when the client disconnects before it has the whole answer. */
export function clientGone(res: Response): AbortSignal {
  const gone = new AbortController();
  res.on('close', () => {
    if (!res.writableFinished) gone.abort();
  });
  return gone.signal;
}

/** Gives each request an id (the client's own, where its form is valid) and writes its one log line. */
export function observe(log: Log, metrics: Metrics, clock: Clock): RequestHandler {
  return (req, res, next) => {
    const sent = req.get('x-request-id');
    const requestId = sent !== undefined && /^[A-Za-z0-9._-]{8,64}$/.test(sent) ? sent : randomUUID();
    localsOf(res).requestId = requestId;
    res.set('X-Request-Id', requestId);
    const start = clock.monotonic();
    // Read here, since `findCall` turns HEAD into GET.
    const { method } = req;
    res.on('close', () => {
      const seconds = (clock.monotonic() - start) / 1000;
      const route = typeof req.route?.path === 'string' ? req.route.path : 'unmatched';
      const status = res.writableFinished ? res.statusCode : 499;
      metrics.requestSeconds.observe({ method, route, status: String(status) }, seconds);
      const about = { request_id: requestId, method, route, status, ms: Math.round(seconds * 1000) };
      const { caller } = localsOf(res);
      const level = route === '/healthz' || route === '/readyz' ? 'debug' : 'info';
      log[level]({ ...about, ...(caller ? { user: caller.name } : {}) }, 'request');
    });
    next();
  };
}

/** How often a header was sent. Of some headers Node keeps only the first, and drops the rest silently. */
function timesSent({ rawHeaders }: IncomingMessage, header: string): number {
  return rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === header).length;
}

/** Finds the contract's call for the path and method. */
export function findCall(contract: Contract): RequestHandler {
  return (req, res, next) => {
    // RFC 9112 section 3.2.
    if (timesSent(req, 'host') !== 1 && req.httpVersion === '1.1') {
      const message = 'must be sent once';
      throw new ApiError('invalid_request', 'A request names one host.', {
        errors: [{ path: '/headers/host', message }],
      });
    }
    // Node omits the body of an answer to HEAD by itself.
    if (req.method === 'HEAD') req.method = 'GET';
    // Express matches paths in the same way: in any case, with or without a slash at the end.
    const calls = contract.calls.get(req.path.toLowerCase().replace(/(?<=.)\/$/, ''));
    const call = calls?.get(req.method) ?? noSuchCall(calls);
    localsOf(res).call = call;
    if (call instanceof ApiError || call.maxBodyBytes === 0) {
      closeIfUnread(req, res);
      // The contract's validator caches a compiled check for each spelling of the content type.
      delete req.headers['content-type'];
    }
    // Which methods a public path lacks is no secret, so this needs no authentication.
    if (call instanceof ApiError && calls && [...calls.values()].every(({ open }) => open)) throw call;
    next();
  };
}

function noSuchCall(calls: ReadonlyMap<string, Call> | undefined): ApiError {
  if (!calls) return new ApiError('not_found', 'There is no such call; /docs lists them.');
  const allow = [...calls.keys()].flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : method));
  return new ApiError('method_not_allowed', `This path takes ${allow.join(', ')}; see /docs.`, { allow });
}

/** Checks the credential as far as that is cheap: it verifies a token's signature, and does not ask Domino yet. */
export function identify(callers: Callers, allowApiKey: boolean): RequestHandler {
  return async (req, res, next) => {
    const locals = localsOf(res);
    try {
      if (timesSent(req, 'authorization') > 1) {
        throw new ApiError('unauthenticated', 'The request carries several Authorization headers: send one.');
      }
      const credential = readCredential(req.headers, { allowApiKey });
      const key = await callers.identify(credential);
      locals.identity = { credential, sender: { kind: credential.kind === 'bearer' ? 'subject' : 'api-key', key } };
    } catch (refusal) {
      locals.identity = { refusal };
    }
    next();
  };
}

/** Asks Domino who the caller is. @param passed called with each sender that Domino knows. */
export function authenticate(callers: Callers, passed: (sender: Sender) => void): RequestHandler {
  return async (_req, res, next) => {
    const locals = localsOf(res);
    if (!locals.identity) throw new Error('authentication before identification');
    if ('refusal' in locals.identity) throw locals.identity.refusal;
    const maxAgeMs = locals.call instanceof ApiError ? undefined : locals.call?.callerMaxAgeMs;
    locals.caller = await callers.resolve(locals.identity.credential, maxAgeMs);
    passed(locals.identity.sender);
    next();
  };
}

/** Refuses a call that the contract does not have, and one for administrators from another user. */
export const authorize: RequestHandler = (_req, res, next) => {
  const { call } = localsOf(res);
  if (!call) throw new Error('authorization before the call was found');
  if (call instanceof ApiError) throw call;
  if (call.adminOnly && !callerOf(res).admin) {
    throw new ApiError('forbidden', 'Only Domino administrators may do this.');
  }
  next();
};
