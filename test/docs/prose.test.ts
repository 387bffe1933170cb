/** Holds plain English: words that hide who acts are gone from the pages, and their number elsewhere can only go down. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root, textOf } from '../support/pages.ts';

/** What to write in their place: a named subject ("a user who", "another tool"), and "reports" or "notifies". */
const riddles = /\b(whoever|whom|tells? of|is told of|none of ours|somebody else|side-car)\b/gi;

/** Places that are left, at most. Who cleans a folder lowers its number; none may be raised. */
const left: Readonly<Record<string, number>> = {
  'README.md': 0,
  'CONTRIBUTING.md': 0,
  'SECURITY.md': 0,
  'CHANGELOG.md': 0,
  docs: 0,
  deploy: 0,
  'openapi.yaml': 1,
  routes: 0,
  src: 110,
  test: 120,
};

/** Other than text, this file, and names of cases: a case's name is its file's. */
const isText = (path: string) =>
  /\.(md|ts|ya?ml|tpl|txt|json|ipynb|tf)$/.test(path) && path !== 'test/docs/prose.test.ts';

function filesOf(path: string): string[] {
  if (statSync(join(root, path)).isFile()) return [path];
  return readdirSync(join(root, path), { recursive: true, encoding: 'utf8' })
    .map((name) => `${path}/${name}`)
    .filter((name) => isText(name) && !/\/(node_modules|\.terraform|cases|results)\//.test(name));
}

describe('plain English', () => {
  for (const [path, most] of Object.entries(left)) {
    it(`${path} has at most ${most} of the words that hide who acts`, () => {
      const found = filesOf(path).flatMap((name) =>
        textOf(name)
          .split('\n')
          .flatMap((line, index) => [...line.matchAll(riddles)].map(([word]) => `${name}:${index + 1}: ${word}`)),
      );
      assert.ok(found.length <= most, `${found.length} places:\n${found.join('\n')}`);
    });
  }
});
