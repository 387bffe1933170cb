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

/** Wall-clock time where the clock may be set while the process runs, in milliseconds since the epoch. */
export interface TimeRange {
  /** Never later than it is, as far as the clock was right now or at the start. */
  earliest(): number;
  /** Never earlier. */
  latest(): number;
}

/** Time as the clock says, and as it said at the start with what has passed since. */
export function createTimeRange(clock: Pick<Clock, 'now' | 'monotonic'>): TimeRange {
  const start = clock.now() - clock.monotonic();
  const passed = () => start + clock.monotonic();
  return {
    earliest: () => Math.min(clock.now(), passed()),
    latest: () => Math.max(clock.now(), passed()),
  };
}
