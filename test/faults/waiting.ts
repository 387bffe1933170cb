/** Owns the suite's waiting: until something is so, looked at again and again, and never for ever. */
import { setTimeout as delay } from 'node:timers/promises';

/** Machines that run tests are slow and shared: what is grossly over is wrong. */
export const grossly = 2;

/** @returns whether it became so in time. */
export async function until(isSo: () => Promise<boolean> | boolean, timeoutMs: number, everyMs = 50): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    if (await isSo()) return true;
    if (performance.now() >= end) return false;
    await delay(everyMs);
  }
}
