/** Proves plain English: no text uses words that hide who acts. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { root, textOf } from '../support/pages.ts';

/** What to write in their place: a named subject ("a user who", "another tool"), and "reports" or "notifies". */
const riddles = /\b(whoever|whom|tells? of|is told of|none of ours|somebody else|side-car)\b/gi;

const places = [
  'README.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
  'CHANGELOG.md',
  'docs',
  'deploy',
  'openapi.yaml',
  'routes',
  'src',
  'test',
];

/** Texts but this file. */
const isText = (path: string) =>
  /\.(md|ts|ya?ml|tpl|txt|json|ipynb|tf)$/.test(path) && path !== 'test/docs/prose.test.ts';

function filesOf(path: string): string[] {
  if (statSync(join(root, path)).isFile()) return [path];
  return readdirSync(join(root, path), { recursive: true, encoding: 'utf8' })
    .map((name) => `${path}/${name}`)
    .filter((name) => isText(name) && !/\/(node_modules|\.terraform|results)\//.test(name));
}

describe('plain English', () => {
  for (const path of places) {
    it(`${path} has no words that hide who acts`, () => {
      const found = filesOf(path).flatMap((name) =>
        textOf(name)
          .split('\n')
          .flatMap((line, index) => [...line.matchAll(riddles)].map(([word]) => `${name}:${index + 1}: ${word}`)),
      );
      assert.deepEqual(found, []);
    });
  }
});
