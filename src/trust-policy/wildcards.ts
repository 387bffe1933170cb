/** Owns the wildcards of IAM's patterns: `*` for any number of characters, `?` for one. Pure. */

export function matchesPattern(pattern: string, text: string): boolean {
  return restsAfter(pattern, text).some((rest) => /^\**$/.test(rest));
}

/** What remains of a pattern after it has matched a text. The steps are at most the product of their lengths. */
export function restsAfter(pattern: string, text: string): string[] {
  // A run of stars matches what one star does, and each place in it would be followed by itself.
  const shortest = pattern.replace(/\*+/g, '*');
  let places = new Set([0]);
  for (const character of text) {
    const next = new Set<number>();
    for (const start of places) {
      let place = start;
      for (; shortest[place] === '*'; place += 1) next.add(place);
      if (shortest[place] === character || shortest[place] === '?') next.add(place + 1);
    }
    places = next;
  }
  return [...places].map((place) => shortest.slice(place));
}
