/** Owns time: everything that reads a clock or waits takes a Clock, so that tests never sleep. */
import { setTimeout as delay } from 'node:timers/promises';

export interface Clock {
  /** Wall-clock time in milliseconds since the epoch: for people, tokens and records. */
  now(): number;
  /** Milliseconds on a clock that never jumps: for deadlines and durations. */
  monotonic(): number;
  /** Resolves after `ms` milliseconds, or at once when `signal` is aborted; it never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  sleep: async (ms, signal) => {
    await delay(ms, undefined, signal ? { signal } : {}).catch(() => undefined);
  },
};
