/** Owns the rate limits: one for each caller, and one for each address that sends unverified or bad credentials. */
import type { Request, RequestHandler, Response } from 'express';
import { ipKeyGenerator, type Options, rateLimit } from 'express-rate-limit';
import { LRUCache } from 'lru-cache';
import { ApiError } from '../lib/errors.ts';
import { senderOf } from './middleware.ts';

/** What the service knows of a request's credential before it asks Domino. */
export type Sender =
  /** A verified token's subject. */
  | { kind: 'subject'; key: string }
  /** An API key, which only Domino can verify. */
  | { kind: 'api-key'; key: string }
  | { kind: 'refused' };

/** How many API keys are remembered as good, by their hashes. */
const maxGoodKeys = 10_000;

export interface RateLimits {
  /** Run before `authenticate` asks Domino. */
  readonly before: readonly RequestHandler[];
  /** Records that Domino accepted the sender's credential. */
  passed(sender: Sender): void;
}

/**
 * Failures are counted apart from callers, so that a client with bad credentials does not lock out callers behind its
 * address. Tokens and API keys are counted apart too, since verifying a key costs a call to Domino. After too many bad
 * keys from an address, its unknown keys are refused unverified; a key that was good before goes on working.
 */
export function createRateLimits(perMinute: number): RateLimits {
  if (perMinute === 0) return { before: [], passed: () => undefined };
  const good = new LRUCache<string, true>({ max: maxGoodKeys });
  const isKnown = (sender: Sender) => sender.kind === 'subject' || (sender.kind === 'api-key' && good.has(sender.key));
  const options: Partial<Options> = {
    windowMs: 60_000,
    limit: perMinute,
    standardHeaders: 'draft-7',
    legacyHeaders: false,
    handler: (_req, res, next) => {
      const reset = Number(res.getHeader('Retry-After'));
      const more = Number.isFinite(reset) && reset > 0 ? { retryAfterSeconds: reset } : {};
      next(new ApiError('too_many_requests', `At most ${perMinute} requests a minute are answered.`, more));
    },
  };
  const callers = rateLimit({
    ...options,
    skip: (_req, res) => !isKnown(senderOf(res as Response)),
    keyGenerator: (_req, res) => {
      const sender = senderOf(res as Response);
      return sender.kind === 'refused' ? '' : sender.key;
    },
  });
  const failures = rateLimit({
    ...options,
    skip: (_req, res) => isKnown(senderOf(res as Response)),
    // Only a bad credential counts as a failure: 401, or 429 while the limit is exceeded.
    skipSuccessfulRequests: true,
    requestWasSuccessful: (_req, res) => res.statusCode !== 401 && res.statusCode !== 429,
    keyGenerator: (req, res) => `${senderOf(res as Response).kind} ${ipKeyGenerator((req as Request).ip ?? '')}`,
  });
  return {
    before: [callers, failures],
    passed: (sender) => {
      if (sender.kind === 'api-key') good.set(sender.key, true);
    },
  };
}
