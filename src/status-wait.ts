/** Owns waiting for the writer: until the published statuses say something, or time is up. */
import type { Clock } from './clock.ts';
import type { Statuses } from './statuses.ts';

/**
 * Waits until `condition` holds, which is looked at whenever a status changes.
 * @returns whether it came to hold within so many milliseconds.
 */
export async function untilPublished(
  statuses: Pick<Statuses<unknown>, 'onChange'>,
  clock: Clock,
  ms: number,
  condition: () => boolean,
): Promise<boolean> {
  if (condition()) return true;
  const done = new AbortController();
  const forget = statuses.onChange(() => {
    if (condition()) done.abort();
  });
  try {
    await clock.sleep(ms, done.signal);
  } finally {
    forget();
  }
  return condition();
}
