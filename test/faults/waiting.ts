/** Owns the suite's waiting: until a condition holds, checked repeatedly, with a time limit. */
import { setTimeout as delay } from 'node:timers/promises';

/** Machines that run tests are slow and shared: only times far above a bound are violations. */
export const grossly = 2;

/** @returns whether the condition held in time. */
export async function until(isSo: () => Promise<boolean> | boolean, timeoutMs: number, everyMs = 50): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await isSo()) return true;
    if (performance.now() >= end) return false;
    await delay(everyMs);
  }
}
