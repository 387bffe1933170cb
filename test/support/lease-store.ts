/** Owns a Lease object for tests: with the API server's guard against stale writes, and calls that fail as a test says. */

import type { LeaseRecord } from '../../src/kubernetes/client.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import type { Clock } from '../../src/lib/clock.ts';
import type { FakeClock } from './clock.ts';

/** How the API server treats one call. */
export type Fate =
  /** Answers after this many milliseconds. */
  | { kind: 'answers'; ms: number }
  /** Carries out the call, but the answer is lost. */
  | { kind: 'lost'; ms: number }
  /** Does not carry out the call. */
  | { kind: 'fails'; ms: number };

export const atOnce: Fate = { kind: 'answers', ms: 0 };

/** A Lease object that refuses a write based on an older version, as the API server does. */
export function createLeaseStore(clock: FakeClock) {
  let record: LeaseRecord | undefined;
  let version = 0;
  const fail = (kind: 'conflict' | 'unavailable') => {
    throw new KubernetesError(kind, kind);
  };
  async function call<T>(fate: Fate, deadlineMs: number, act: () => T): Promise<T> {
    if (fate.kind === 'fails') {
      await clock.sleep(Math.min(fate.ms, deadlineMs));
      return fail('unavailable');
    }
    await clock.sleep(Math.min(fate.ms, deadlineMs) / 2);
    const result = act();
    await clock.sleep(Math.min(fate.ms, deadlineMs) / 2);
    return fate.kind === 'lost' ? fail('unavailable') : result;
  }
  return {
    get record() {
      return record;
    },
    set record(next: LeaseRecord | undefined) {
      record = next;
    },
    /** One candidate's access to the store. */
    client: (fate: () => Fate) => ({
      getLease: (_name: string, deadlineMs: number) => call(fate(), deadlineMs, () => record && { ...record }),
      writeLease: (
        _name: string,
        next: Omit<LeaseRecord, 'resourceVersion'>,
        resourceVersion: string | undefined,
        deadlineMs: number,
      ) =>
        call(fate(), deadlineMs, () => {
          if (resourceVersion !== record?.resourceVersion) return fail('conflict');
          version += 1;
          record = { ...next, resourceVersion: String(version) };
          return { ...record };
        }),
    }),
  };
}

/** The clocks of one process: its wall clock is off, and its monotonic clock began at another time. */
export function skewed(clock: FakeClock, wallMs: number, monotonicMs: number): Clock {
  return {
    now: () => clock.now() + wallMs,
    monotonic: () => clock.monotonic() + monotonicMs,
    sleep: (ms, signal) => clock.sleep(ms, signal),
  };
}
