/** Owns one AWS call's passage through the knobs: it hangs, is slow, is answered, or loses its answer. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import { type AwsKnobs, byAction, takeNext } from './aws-knobs.ts';
import { AwsError } from './aws-xml.ts';

export interface Reply {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** One call in its own protocol. */
export interface Exchange {
  readonly action: string;
  /** The entry in a record of writes, when the call is one. */
  readonly write: { endedAt?: number; outcome?: string } | undefined;
  run(requestId: string): Promise<Reply>;
  /** The error as the protocol names it. */
  named(error: AwsError): AwsError;
  failed(error: AwsError, requestId: string): Reply;
}

export async function answerCall(
  { knobs, clock }: { readonly knobs: AwsKnobs; readonly clock: Clock },
  request: IncomingMessage,
  response: ServerResponse,
  { action, write, run, named, failed }: Exchange,
): Promise<void> {
  // Recorded before the answer is sent, so that a client's next write never looks like an overlap.
  const finish = (outcome: string) => write && Object.assign(write, { endedAt: clock.now(), outcome });
  if (takeNext(knobs.hangNext, action)) {
    await once(response, 'close');
    finish('hung');
    return;
  }
  const half = (byAction(knobs.latencyMs, action) ?? 0) / 2;
  if (half > 0) await clock.sleep(half);
  const requestId = randomUUID();
  let outcome = 'ok';
  let reply: Reply;
  try {
    reply = await run(requestId);
  } catch (error) {
    const known = named(error instanceof AwsError ? error : new AwsError('InternalFailure', String(error)));
    outcome = known.code;
    reply = failed(known, requestId);
  }
  if (half > 0) await clock.sleep(half);
  // An outage that begins during a write loses the answer, not the write.
  if (knobs.down || takeNext(knobs.loseAnswerNext, action)) {
    finish(outcome === 'ok' ? 'answer-lost' : outcome);
    request.socket.destroy();
    return;
  }
  finish(outcome);
  response.writeHead(reply.status, { ...reply.headers, 'x-amzn-requestid': requestId }).end(reply.body);
}
