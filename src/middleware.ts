/** Owns what surrounds every call: request ids, the request's log line and duration, who calls, and how often. */
import { randomUUID } from 'node:crypto';
import type { Request, RequestHandler, Response } from 'express';
import { ipKeyGenerator, rateLimit } from 'express-rate-limit';
import { type Credential, readCredential } from './auth.ts';
import type { Caller, Callers } from './caller.ts';
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** What the layers leave for the route in `res.locals`. */
interface Locals {
  requestId?: string;
  caller?: Caller;
  /** Settled when the credential was looked at: whose it is and whom to count the request for, or why it is refused. */
  identity?: { credential: Credential; key: string } | { refusal: unknown };
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

/** Refuses whoever is no Domino administrator. */
export const adminOnly: RequestHandler = (_req, res, next) => {
  if (callerOf(res).admin) next();
  else next(new ApiError('forbidden', 'Only Domino administrators may do this.'));
};

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
    res.on('close', () => {
      const seconds = (clock.monotonic() - start) / 1000;
      const route = typeof req.route?.path === 'string' ? req.route.path : 'unmatched';
      const status = res.writableFinished ? res.statusCode : 499;
      metrics.requestSeconds.observe({ method: req.method, route, status: String(status) }, seconds);
      const about = { request_id: requestId, method: req.method, route, status, ms: Math.round(seconds * 1000) };
      const { caller } = localsOf(res);
      const level = route === '/healthz' || route === '/readyz' ? 'debug' : 'info';
      log[level]({ ...about, ...(caller ? { user: caller.name } : {}) }, 'request');
    });
    next();
  };
}

function byAddress(req: Request): string {
  return `address:${ipKeyGenerator(req.ip ?? '')}`;
}

/** Looks at the credential, as far as that is cheap: a token's signature, not yet what Domino says. */
export function identify(callers: Callers, allowApiKey: boolean): RequestHandler {
  return async (req, res, next) => {
    const locals = localsOf(res);
    try {
      const credential = readCredential(req.headers, { allowApiKey });
      const { key } = await callers.identify(credential);
      // A key that nobody has verified yet would make a new count each time it is made up.
      locals.identity = { credential, key: credential.kind === 'api-key' ? byAddress(req) : key };
    } catch (refusal) {
      locals.identity = { refusal };
    }
    next();
  };
}

/** Per caller; whoever could not be identified is counted by address. */
export function limitRate(perMinute: number): RequestHandler {
  if (perMinute === 0) return (_req, _res, next) => next();
  return rateLimit({
    windowMs: 60_000,
    limit: perMinute,
    standardHeaders: 'draft-7',
    legacyHeaders: false,
    keyGenerator: (req, res) => {
      const identity = localsOf(res as Response).identity;
      return identity && 'key' in identity ? identity.key : byAddress(req as Request);
    },
    handler: (_req, res, next) => {
      const reset = Number(res.getHeader('Retry-After'));
      const options = Number.isFinite(reset) && reset > 0 ? { retryAfterSeconds: reset } : {};
      next(new ApiError('too_many_requests', `At most ${perMinute} requests a minute are answered.`, options));
    },
  });
}

/** Asks Domino who it is. */
export function authenticate(callers: Callers): RequestHandler {
  return async (_req, res, next) => {
    const locals = localsOf(res);
    if (!locals.identity) throw new Error('authentication before identification');
    if ('refusal' in locals.identity) throw locals.identity.refusal;
    locals.caller = await callers.resolve(locals.identity.credential);
    next();
  };
}
