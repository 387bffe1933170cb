/** Owns `npm run test:fast`: the tests of one process that start no stand-in, no server and no program. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const folder = import.meta.dirname;
/** These are pure and slow: properties over many documents, and sizes. */
const slow = /(fuzz|properties|model|sizing)\.test\.ts$/;
const heavy = /from 'node:(child_process|http|https|http2|net|tls)'|from 'supertest'/;
const known = new Map<string, boolean>();

/** Whether a file of test/, or one of test/ that it imports, reaches beyond the process. */
function isHeavy(path: string): boolean {
  const found = known.get(path);
  if (found !== undefined) return found;
  known.set(path, false);
  const text = readFileSync(path, 'utf8');
  const imported = [...text.matchAll(/from '(\.[^']+)'/g)].map(([, name = '']) => join(dirname(path), name));
  const own = imported.filter((name) => name.startsWith(folder) && existsSync(name));
  const answer = path.startsWith(join(folder, 'stack')) || heavy.test(text) || own.some(isHeavy);
  known.set(path, answer);
  return answer;
}

const tests = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts') && !slow.test(name))
  .map((name) => join(folder, name))
  .filter((path) => !isHeavy(path));
const mocha = join(folder, '..', 'node_modules', 'mocha', 'bin', 'mocha.js');
process.exitCode =
  spawnSync(process.execPath, [mocha, ...process.argv.slice(2), ...tests], { stdio: 'inherit' }).status ?? 1;
