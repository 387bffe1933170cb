/** Owns the wildcards of IAM's patterns: `*` for any number of characters, `?` for one. Pure. */

export function matchesPattern(pattern: string, text: string): boolean {
  return restsAfter(pattern, text).some((rest) => /^\**$/.test(rest));
}

/** What remains of a pattern after it has matched a text. The steps are at most the product of their lengths. */
export function restsAfter(pattern: string, text: string): string[] {
  let places = new Set([0]);
  for (const character of text) {
    const next = new Set<number>();
    for (const start of places) {
      let place = start;
      for (; pattern[place] === '*'; place += 1) next.add(place);
      if (pattern[place] === character || pattern[place] === '?') next.add(place + 1);
    }
    places = next;
  }
  return [...places].map((place) => pattern.slice(place));
}
