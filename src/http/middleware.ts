/** Owns what surrounds every call: request ids, its log line and duration, which call it is, and who may make it. */
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

/** What the layers leave for the route in `res.locals`. */
interface Locals {
  requestId?: string;
  caller?: Caller;
  /** The call that it is by the contract, or why it is none. */
  call?: Call | ApiError;
  /** Settled when the credential was looked at: what it is, or why it is refused. */
  identity?: { credential: Credential; sender: Sender } | { refusal: unknown };
}

const localsOf = (res: Response): Locals => res.locals as Locals;

export function requestIdOf(res: Response): string {
  return localsOf(res).requestId ?? '';
}

/** Who calls. @throws Error where the route was not put behind `authenticate`, which is our mistake. */
export function callerOf(res: Response): Caller {
  const { caller } = localsOf(res);
  if (!caller) throw new Error('a route without authentication asked for the caller');
  return caller;
}

/** @throws Error where the layer was not put behind `authorize`, which is our mistake. */
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

/** Whether the call only asks what it would do. The contract has said already that the parameter is a boolean. */
export function isDryRun(req: Request): boolean {
  return String(req.query.dry_run) === 'true';
}

/** Aborted when the client is gone before it was answered. */
export function clientGone(res: Response): AbortSignal {
  const gone = new AbortController();
  res.on('close', () => {
    if (!res.writableFinished) gone.abort();
  });
  return gone.signal;
}

/** Gives each request an id, a client's own where it has the form of one, and its one line in the log. */
export function observe(log: Log, metrics: Metrics, clock: Clock): RequestHandler {
  return (req, res, next) => {
    const sent = req.get('x-request-id');
    const requestId = sent !== undefined && /^[A-Za-z0-9._-]{8,64}$/.test(sent) ? sent : randomUUID();
    localsOf(res).requestId = requestId;
    res.set('X-Request-Id', requestId);
    const start = clock.monotonic();
    // A layer below answers HEAD as GET.
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

/** How often a header was sent: Node keeps the first of some headers, and says nothing of the others. */
function timesSent({ rawHeaders }: IncomingMessage, header: string): number {
  return rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === header).length;
}

/** Finds the call that the contract has for path and method. */
export function findCall(contract: Contract): RequestHandler {
  return (req, res, next) => {
    // RFC 9112 section 3.2.
    if (timesSent(req, 'host') !== 1 && req.httpVersion === '1.1') {
      const message = 'must be sent once';
      throw new ApiError('invalid_request', 'A request names one host.', {
        errors: [{ path: '/headers/host', message }],
      });
    }
    // Node leaves out the body of an answer to HEAD by itself.
    if (req.method === 'HEAD') req.method = 'GET';
    // As Express matches paths.
    const calls = contract.at(req.path.toLowerCase().replace(/(?<=.)\/$/, ''));
    const call = calls?.get(req.method) ?? noSuchCall(calls);
    localsOf(res).call = call;
    if (call instanceof ApiError || call.maxBodyBytes === 0) {
      closeIfUnread(req, res);
      // The contract's validator keeps a compiled check for each spelling that it meets.
      delete req.headers['content-type'];
    }
    // What an open path does not have is no secret.
    if (call instanceof ApiError && calls && [...calls.values()].every(({ open }) => open)) throw call;
    next();
  };
}

function noSuchCall(calls: ReadonlyMap<string, Call> | undefined): ApiError {
  if (!calls) return new ApiError('not_found', 'There is no such call; /docs lists them.');
  const allow = [...calls.keys()].flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : method));
  return new ApiError('method_not_allowed', `This path takes ${allow.join(', ')}; see /docs.`, { allow });
}

/** Looks at the credential, as far as that is cheap: a token's signature, not yet what Domino says. */
export function identify(callers: Callers, allowApiKey: boolean): RequestHandler {
  return async (req, res, next) => {
    const locals = localsOf(res);
    try {
      if (timesSent(req, 'authorization') > 1) {
        throw new ApiError('unauthenticated', 'The request carries several Authorization headers: send one.');
      }
      const credential = readCredential(req.headers, { allowApiKey });
      const { key } = await callers.identify(credential);
      locals.identity = { credential, sender: { kind: credential.kind === 'bearer' ? 'subject' : 'api-key', key } };
    } catch (refusal) {
      locals.identity = { refusal };
    }
    next();
  };
}

/** Asks Domino who it is. @param passed called with each sender that Domino knows. */
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

/** Refuses a path that the contract does not have, and a user who is no administrator where the contract asks for one. */
export const authorize: RequestHandler = (_req, res, next) => {
  const { call } = localsOf(res);
  if (!call) throw new Error('authorization before the call was found');
  if (call instanceof ApiError) throw call;
  if (call.adminOnly && !callerOf(res).admin) {
    throw new ApiError('forbidden', 'Only Domino administrators may do this.');
  }
  next();
};
