/** Owns `npm run docs`: writes the tables of docs/ anew from the code that owns what they say. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../support/pages.ts';
import { withTables } from './tables.ts';

for (const name of readdirSync(join(root, 'docs')).filter((file) => file.endsWith('.md'))) {
  const path = join(root, 'docs', name);
  const before = readFileSync(path, 'utf8');
  const after = withTables(before);
  if (after === before) continue;
  writeFileSync(path, after);
  process.stdout.write(`docs/${name}: written\n`);
}
