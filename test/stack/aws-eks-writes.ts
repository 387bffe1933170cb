/** Owns the record of association writes, in flight and done, so that tests see the writers and any overlap. */
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import { accessKeyIdOf } from './aws-keys.ts';
import { callerName } from './aws-writes.ts';

export interface EksWrite {
  action: string;
  /** The AWS account's id, or `unknown` when the request's key was refused. */
  account: string;
  cluster: string;
  /** The association's subject; empty when the call names an id that does not exist. */
  namespace: string;
  serviceAccount: string;
  /** Known at once for Update and Delete, and for Create after it took effect. */
  associationId: string;
  /** The request's body as it was sent. */
  body: Record<string, unknown>;
  /** Milliseconds since the epoch, by the stand-in's clock; `endedAt` is missing while it is in flight. */
  startedAt: number;
  endedAt?: number;
  /** How many other writes of the same service account's association were in flight when this one arrived. */
  overlaps: number;
  accessKeyId: string;
  userAgent: string;
  /** As in the record of trust-policy writes. */
  by: string;
  /** `ok`, an error's code, `answer-lost` (the write took effect), `hung` (it did not). Missing while in flight. */
  outcome?: string;
}

export type EksWriteTarget = Pick<
  EksWrite,
  'action' | 'account' | 'cluster' | 'namespace' | 'serviceAccount' | 'associationId' | 'body'
>;

export function beginEksWrite(
  writes: EksWrite[],
  clock: Clock,
  headers: IncomingHttpHeaders,
  target: EksWriteTarget,
): EksWrite {
  const inFlight = writes.filter(
    (write) =>
      write.endedAt === undefined &&
      write.account === target.account &&
      write.cluster === target.cluster &&
      write.namespace === target.namespace &&
      write.serviceAccount === target.serviceAccount,
  );
  const write: EksWrite = {
    ...target,
    startedAt: clock.now(),
    overlaps: inFlight.length,
    accessKeyId: accessKeyIdOf(headers) ?? '',
    userAgent: headers['user-agent'] ?? '',
    by: callerName(headers),
  };
  writes.push(write);
  return write;
}
