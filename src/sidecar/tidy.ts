/** Owns the giving back of memory after rounds, so that the sidecar idles under 60 MB. */

/** Long enough for the answers of a round to be out first: the collection stops everything for 10 to 80 ms. */
const waitMs = 1000;

let waiting = false;

/**
 * Collects soon, once however often it is asked. Connections hold memory outside the heap, and an idle process would not
 * collect them for days. Without `--expose-gc`, which `npm run sidecar` has, it does nothing.
 */
export function tidySoon(): void {
  const { gc } = globalThis;
  if (gc === undefined || waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    // The thorough kind: it drops compiled code and caches too, and packs what is left. 2 MB less than the plain one.
    gc({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  }, waitMs).unref();
}
