/** Proves that each mutation still finds the text that it changes, so that `mutate.ts` can run at any time. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { mutated, mutations } from './mutations.ts';

describe('the mutations still apply to the sources', () => {
  for (const { invariant, what, edits } of mutations) {
    it(`${invariant}: ${what}`, () => {
      const texts = new Map<string, string>();
      for (const edit of edits) {
        const before = texts.get(edit.file) ?? readFileSync(new URL(`../../${edit.file}`, import.meta.url), 'utf8');
        const after = mutated(before, edit);
        assert.notEqual(after, before);
        texts.set(edit.file, after);
      }
    });
  }
});
