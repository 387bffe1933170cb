/** Owns time: all code that reads a clock or waits takes a Clock, so that tests never sleep. */
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

/** Bounds on the time, in milliseconds since the epoch, where the wall clock may be set while the process runs. */
export interface TimeRange {
  /** Not later than the true time, if the clock is right now or was right at the start. */
  earliest(): number;
  /** Not earlier than the true time, under the same condition. */
  latest(): number;
}

/** Compares the clock's time with its time at the start plus the time that has passed since. */
export function createTimeRange(clock: Pick<Clock, 'now' | 'monotonic'>): TimeRange {
  const start = clock.now() - clock.monotonic();
  const passed = () => start + clock.monotonic();
  return {
    earliest: () => Math.min(clock.now(), passed()),
    latest: () => Math.max(clock.now(), passed()),
  };
}
