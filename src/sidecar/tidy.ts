/** Owns garbage collection after rounds, so that the idle sidecar stays under 60 MB. */

/** Long enough to send a round's answers first: the collection stops the process for 10 to 80 ms. */
const waitMs = 1000;

let waiting = false;

/**
 * Collects garbage soon, once for several calls. Connections hold memory outside the heap, and an idle process would not
 * collect them for days. It does nothing without `--expose-gc`, which `npm run sidecar` sets.
 */
export function tidySoon(): void {
  const { gc } = globalThis;
  if (gc === undefined || waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    // The thorough kind also drops compiled code and caches, and compacts the rest: 2 MB less than with the plain kind.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  }, waitMs).unref();
}
