/**
 * Owns the proof that the tests detect violations: breaks one invariant at a time in a copy of the tree, and lists the
 * tests that fail. Not part of CI: `node --import tsx test/faults/mutate.ts [--only 3] [--rounds 12] [--seed 1]`,
 * and `--test <file>`, once or more, for these tests alone. `--rounds 0` omits the rounds of faults.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { commandLine, refuse, wholeNumber } from '../support/arguments.ts';
import { mutated, mutations } from './mutations.ts';

const { values } = commandLine({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '12' },
    seed: { type: 'string', default: '1' },
    test: { type: 'string', multiple: true, default: [] },
  },
});
const only = values.only === undefined ? undefined : wholeNumber('--only', values.only, 1);
if (only !== undefined && only > mutations.length) refuse(`--only: there are ${mutations.length} mutations`);
const root = fileURLToPath(new URL('../../', import.meta.url));
const left = new Set(['node_modules', 'dist', '.git', 'coverage']);

for (const [index, mutation] of mutations.entries()) {
  if (only !== undefined && only !== index + 1) continue;
  const { invariant, what } = mutation;
  console.log(`\n${index + 1}. ${typeof invariant === 'number' ? 'invariant ' : ''}${invariant}: ${what}`);
  const tree = mkdtempSync(join(tmpdir(), 'irsa-svc-mutation-'));
  try {
    cpSync(root, tree, { recursive: true, filter: (path) => !left.has(path.slice(root.length).split('/')[0] ?? '') });
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    for (const edit of mutation.edits) {
      const path = join(tree, edit.file);
      writeFileSync(path, mutated(readFileSync(path, 'utf8'), edit));
    }
    const args = values.test.length > 0 ? values.test : ['test/**/*.test.ts'];
    const unit = run(tree, ['node_modules/.bin/mocha', '--reporter', 'json', ...args], 300_000);
    console.log(`   tests: ${names(failedTests(unit))}`);
    if (values.rounds === '0') continue;
    const options = ['--rounds', values.rounds, '--seed', values.seed];
    const faults = run(tree, ['--import', 'tsx', 'test/faults/main.ts', ...options], 500_000);
    console.log(`   faults: ${names(failedRounds(faults))}`);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

function run(cwd: string, args: string[], timeout: number): string {
  const options = { cwd, timeout, encoding: 'utf8', maxBuffer: 64 * 2 ** 20, killSignal: 'SIGTERM' } as const;
  return spawnSync(process.execPath, args, options).stdout;
}

function failedTests(output: string): string[] {
  const start = output.indexOf('{\n  "stats"');
  if (start < 0) return ['(the tests did not run to their end)'];
  const { failures } = JSON.parse(output.slice(start)) as { failures: { fullTitle: string }[] };
  return failures.map(({ fullTitle }) => fullTitle);
}

function failedRounds(output: string): string[] {
  const blocks = output.split(/^(?=round )/m).filter((block) => block.includes(': FAILED'));
  const rounds = blocks.map((block) => {
    const [title = '', first = ''] = block.split('\n');
    return `${title.split(': FAILED')[0]}: ${first.trim().slice(0, 160)}`;
  });
  return output.includes('rounds held') ? rounds : [...rounds, '(the rounds did not run to their end)'];
}

function names(list: readonly string[]): string {
  if (list.length === 0) return 'NOTHING FAILED';
  const shown = list.slice(0, 8).map((name) => `\n     - ${name}`);
  return `${list.length} failed${shown.join('')}${list.length > shown.length ? '\n     - …' : ''}`;
}
