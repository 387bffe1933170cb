/** Owns what all calls to AWS share: metrics, errors in our words, the deadline, and the lease check before a write. */

import type { Clock } from '../lib/clock.ts';
import { AwsError, type AwsErrorCode } from './error.ts';

export interface AwsCallOptions {
  /** Called after each call with its action, `ok` or the error's code, and the seconds it took. */
  onCall: (action: string, outcome: string, seconds: number) => void;
  /** Monotonic milliseconds. */
  monotonic: () => number;
  /** The service's own role, where its environment names it. */
  ownRole?: string | undefined;
}

/** Makes one call and reports it. @throws AwsError, which `classify` makes from the SDK's error. */
export async function measuredCall<T>(
  options: AwsCallOptions,
  action: string,
  call: () => Promise<T>,
  classify: (cause: unknown) => AwsError,
): Promise<T> {
  const start = options.monotonic();
  let outcome = 'ok';
  try {
    return await call();
  } catch (cause) {
    const error = cause instanceof AwsError ? cause : classify(cause);
    outcome = error.code;
    throw error;
  } finally {
    options.onCall(action, outcome, (options.monotonic() - start) / 1000);
  }
}

/** The part of the lease that calls to AWS check. */
export interface HeldLease {
  holds(): boolean;
  /** Monotonic milliseconds. */
  holdsUntil(): number;
}

const deadlineMs = 5_000;

/**
 * The deadline of a call: 5 s, and in any case before the lease expires. The end of the term does not abort a call in
 * flight: the leader waits for it before it releases the lease, since an aborted write may still take effect.
 */
export function callDeadline({ lease, clock }: { lease: HeldLease; clock: Clock }): AbortSignal {
  const left = Math.min(deadlineMs, lease.holdsUntil() - clock.monotonic());
  const late = new AbortController();
  void clock.sleep(Math.max(0, left)).then(() => late.abort());
  return late.signal;
}

interface Guarded {
  middlewareStack: {
    add(
      middleware: <Args, Output>(next: (args: Args) => Promise<Output>) => (args: Args) => Promise<Output>,
      options: { step: 'finalizeRequest'; priority: 'low'; name: string },
    ): void;
  };
}

/** Stops the command with `not_holder` where `mayWrite` is false after signing, right before sending. Invariant 1. */
export function guardWrite(command: Guarded, mayWrite: () => boolean): void {
  command.middlewareStack.add(
    (next) => async (args) => {
      if (!mayWrite()) throw new AwsError('not_holder', 'the lease ran out before the write');
      return next(args);
    },
    { step: 'finalizeRequest', priority: 'low', name: 'irsaLeaseGuard' },
  );
}

/** The names of throttling errors, without `Exception` at the end. */
export const throttlingNames: Readonly<Record<string, AwsErrorCode>> = {
  Throttling: 'throttled',
  RequestLimitExceeded: 'throttled',
  TooManyRequests: 'throttled',
};

/** The name of an SDK error, without `Exception` at the end, and its message. */
export function awsWords(cause: unknown): { name: string; message: string } {
  const { Code, name, message } = cause as { Code?: string; name?: string; message?: string };
  const word = (Code ?? name ?? '').replace(/Exception$/, '');
  return { name: word, message: message ?? word };
}

/** Calls that the SDK makes by itself to get credentials. A refusal of one fails the call that needed them. */
const credentialCall = /\b(?:sts:AssumeRoleWithWebIdentity|eks-auth:AssumeRoleForPodIdentity)\b/;

/**
 * Says which call AWS refuses, and to which role.
 * @param action the intended call, as IAM names it: `iam:GetRole`. @param target the object of the call, where known.
 */
export function accessDenied(action: string, message: string, target: string | undefined, ownRole?: string): string {
  const [, user] = /\bUser: (\S+)/.exec(message) ?? [];
  const own = ownRole ?? user;
  const self = own === undefined ? 'the service’s own role' : `the service’s own role ${own}`;
  const [credentials] = credentialCall.exec(message) ?? [];
  if (credentials)
    return `irsa-svc gets no credentials, since AWS refuses ${credentials} for ${self}; ${action} was not sent`;
  if (target === undefined) return `AWS refuses ${action} to ${self}`;
  return `irsa-svc is not allowed to do ${action} on ${target}`;
}
