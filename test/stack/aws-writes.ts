/** Owns the record of trust-policy writes, in flight and done, so that tests can count them and see overlaps. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import { accessKeyIdOf } from './aws-keys.ts';

export interface TrustWrite {
  /** The AWS account's id, or `unknown` when the request's key was refused. */
  account: string;
  role: string;
  /** The document's text as it was sent. */
  document: string;
  /** Milliseconds since the epoch, by the stand-in's clock; `endedAt` is missing while it is in flight. */
  startedAt: number;
  endedAt?: number;
  /** How many other writes of the same role were in flight when this one arrived. */
  overlaps: number;
  accessKeyId: string;
  userAgent: string;
  /** Header `x-stack-caller`, else the SDK's app id (AWS_SDK_UA_APP_ID), else the access key id. */
  by: string;
  /** `ok`, an error's code, `answer-lost` (the write took effect), `hung` (it did not). Missing while in flight. */
  outcome?: string;
}

export function callerName(headers: IncomingHttpHeaders): string {
  const named = headers['x-stack-caller'];
  if (typeof named === 'string') return named;
  return /\bapp\/(\S+)/.exec(headers['user-agent'] ?? '')?.[1] ?? accessKeyIdOf(headers) ?? 'unsigned';
}

export function beginWrite(
  writes: TrustWrite[],
  clock: Clock,
  headers: IncomingHttpHeaders,
  params: URLSearchParams,
  account: string,
): TrustWrite {
  const role = params.get('RoleName') ?? '';
  const inFlight = writes.filter(
    (write) => write.endedAt === undefined && write.role === role && write.account === account,
  );
  const write: TrustWrite = {
    account,
    role,
    document: params.get('PolicyDocument') ?? '',
    startedAt: clock.now(),
    overlaps: inFlight.length,
    accessKeyId: accessKeyIdOf(headers) ?? '',
    userAgent: headers['user-agent'] ?? '',
    by: callerName(headers),
  };
  writes.push(write);
  return write;
}
