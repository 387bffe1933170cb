/** Owns the start of the activity record: it collects audit lines from the first one on, and stores them later. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../lib/metrics.ts';
import { type Activity, type ActivityOptions, createActivity } from './activity.ts';
import type { AuditLine } from './entry.ts';
import { createSegments, type SegmentCalls } from './segments.ts';
import { withTrail } from './trail.ts';

export interface TrailOptions {
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export interface Trail {
  /** The log for the rest of the service: its audit lines go to the record too. */
  log: Log;
  /** Starts the storing. Lines that came before wait for this. */
  begin(kubernetes: SegmentCalls, ownerOf: ActivityOptions['ownerOf']): Activity;
}

export function startTrail({ clock, log, metrics }: TrailOptions): Trail {
  const early: AuditLine[] = [];
  let take = (line: AuditLine): void => {
    early.push(line);
  };
  const begin: Trail['begin'] = (kubernetes, ownerOf) => {
    const activity = createActivity({
      segments: createSegments(kubernetes),
      replica: `${hostname()}-${randomUUID().slice(0, 8)}`,
      ownerOf,
      onDropped: (count) => metrics.droppedActivity.inc(count),
      clock,
      log,
    });
    take = activity.take;
    for (const line of early.splice(0)) take(line);
    return activity;
  };
  const now = () => clock.now();
  return { log: withTrail(log, now, (line) => take(line)), begin };
}
