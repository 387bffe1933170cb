/** Owns the audit line of a call: what an administrator changed with it, or what a user was granted. */
import type { Response } from 'express';
import type { Log } from '../lib/log.ts';
import { callerOf, requestIdOf } from './middleware.ts';

/** @param kind the value of `audit`, which log queries match. @param about more fields of the line. */
export function audit(log: Log, res: Response, kind: string, about: object, message: string): void {
  const { id, name } = callerOf(res);
  log.info({ audit: kind, request_id: requestIdOf(res), user: name, user_id: id, ...about }, message);
}
