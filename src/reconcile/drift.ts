/** Owns external changes (drift) of what we manage: counts them, delays repairs that repeat, and logs each change. */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface Drift {
  at: string;
  /** How many drifts there were in all, as far as this lease holder knows. */
  count: number;
  /** The subjects, or parts, of ours that were removed. */
  missing: string[];
  /** The subjects, or parts, that look like ours and that we did not add. */
  extra: string[];
}

export interface DriftMemory {
  drift: Drift | undefined;
  /** When the recent drifts were found, on the monotonic clock. */
  driftTimes: number[];
  /** Until when a repair waits: `until` on the monotonic clock, `at` as ISO 8601 for people. */
  contested: { until: number; at: string } | undefined;
}

/** So many drifts in a window are repaired at once; each further one waits twice as long as the one before. */
const patientDrifts = 3;
const driftWindowMs = 60 * 60_000;
const firstPauseMs = 5_000;
const longestPauseMs = 5 * 60_000;

export function newDriftMemory(): DriftMemory {
  return { drift: undefined, driftTimes: [], contested: undefined };
}

/** Records a drift. @returns how many milliseconds its repair should wait: 0 unless it keeps happening. */
export function recordDrift(
  memory: DriftMemory,
  found: Pick<Drift, 'missing' | 'extra'>,
  clock: { now(): number; monotonic(): number },
): number {
  const now = clock.monotonic();
  memory.driftTimes = [...memory.driftTimes.filter((at) => now - at <= driftWindowMs), now];
  memory.drift = { at: new Date(clock.now()).toISOString(), count: (memory.drift?.count ?? 0) + 1, ...found };
  const beyond = memory.driftTimes.length - patientDrifts;
  const pause = beyond <= 0 ? 0 : Math.min(longestPauseMs, firstPauseMs * 2 ** (beyond - 1));
  memory.contested = pause === 0 ? undefined : { until: now + pause, at: new Date(clock.now() + pause).toISOString() };
  return pause;
}

interface DriftReporter {
  clock: Clock;
  log: Log;
  onDrift: (drift: Drift, pauseMs: number) => void;
}

/**
 * Records a drift as `recordDrift` does, writes it to the log and the activity record, and calls `onDrift`.
 * @param what the changed thing, as log fields. @param message such as `the trust policy was changed externally`.
 * @returns how many milliseconds its repair should wait.
 */
export function reportDrift(
  memory: DriftMemory,
  found: Pick<Drift, 'missing' | 'extra'>,
  { clock, log, onDrift }: DriftReporter,
  what: Readonly<Record<string, string>>,
  message: string,
): number {
  const pauseMs = recordDrift(memory, found, clock);
  log.warn({ audit: 'external_change', ...what, ...memory.drift, pause_ms: pauseMs }, message);
  if (memory.drift) onDrift(memory.drift, pauseMs);
  return pauseMs;
}
