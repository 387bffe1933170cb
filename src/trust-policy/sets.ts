/** Owns the comparison of sets. Pure. */

/** Sets that are left out are empty. */
export function sameSet(a: ReadonlySet<string> = new Set(), b: ReadonlySet<string> = new Set()): boolean {
  return a === b || (a.size === b.size && a.isSubsetOf(b));
}
