/**
 * Owns the proof that the tests see what they are for: breaks one invariant at a time in a copy of the tree, and tells
 * which tests fail. Not part of CI: `node --import tsx test/faults/mutations.ts [--only 3] [--rounds 12] [--seed 1]`,
 * and `--test <file>` as often as wanted for these tests alone.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

interface Mutation {
  /** Of docs/how-it-works.md. */
  invariant: number | 'Pod Identity';
  what: string;
  edits: { file: string; from: string | RegExp; to: string }[];
}

const mutations: readonly Mutation[] = [
  {
    invariant: 1,
    what: 'writes are not held against the lease: no guard, no deadline',
    edits: [
      { file: 'src/iam.ts', from: 'if (!mayWrite()) throw', to: 'if (mayWrite === undefined) throw' },
      {
        file: 'src/role-pass.ts',
        from: 'Math.min(iamDeadlineMs, deps.lease.holdsUntil() - deps.clock.monotonic())',
        to: 'iamDeadlineMs',
      },
    ],
  },
  {
    invariant: 1,
    what: 'a candidate takes the lease without waiting for it to run out',
    edits: [{ file: 'src/lease.ts', from: '!mine && !expired', to: '!mine && !expired && false' }],
  },
  {
    invariant: 2,
    what: 'subjects that are not ours are dropped',
    edits: [{ file: 'src/trust-policy.ts', from: '[...adopted.foreign, ...managed]', to: '[...managed]' }],
  },
  {
    invariant: 3,
    what: 'no second look before many are dropped',
    edits: [{ file: 'src/role-pass.ts', from: /await deps\.stillWanted\(role, dropped\)/, to: 'new Set<string>()' }],
  },
  {
    invariant: 3,
    what: 'the writer does not wait for its caches',
    edits: [
      {
        file: 'src/service.ts',
        from: 'const writing = Promise.all([synced, identified])',
        to: 'const writing = Promise.all([undefined, identified])',
      },
    ],
  },
  {
    invariant: 4,
    what: 'with nobody in, the list of subjects is empty',
    edits: [{ file: 'src/trust-policy.ts', from: 'list.length > 0 ? list : [placeholderSubject]', to: 'list' }],
  },
  {
    invariant: 4,
    what: ':aud is left out',
    edits: [
      {
        file: 'src/trust-policy.ts',
        from: 'audience === undefined ? { ...like, [audKey]: scope.audience } : like',
        to: 'like',
      },
    ],
  },
  {
    invariant: 'Pod Identity',
    what: 'the idempotency token is not published before the call',
    edits: [
      {
        file: 'src/pod-identity-association.ts',
        from: 'record.creating ??= randomUUID();\n  await deps.publish(record);',
        to: 'record.creating ??= randomUUID();',
      },
    ],
  },
  {
    invariant: 'Pod Identity',
    what: 'associations that somebody else made are taken over',
    edits: [
      {
        file: 'src/associations.ts',
        from: 'return tags[managedByTag] === managedBy;',
        to: 'return tags[managedByTag] !== undefined || managedBy !== undefined;',
      },
    ],
  },
  {
    invariant: 'Pod Identity',
    what: 'taking away begins with the association, before the Mutation’s entry',
    edits: [
      {
        file: 'src/pod-identity-removal.ts',
        from: /record\.isReady = false;\n {2}if \(deps\.mutation\.gives\(account\)\) \{[^}]*\}\n {2}record\.parts\.mutation = false;\n/,
        to: '',
      },
      {
        file: 'src/pod-identity-removal.ts',
        from: 'deps.trust.want(account, new Map());\n',
        to: `record.isReady = false;
  if (deps.mutation.gives(account)) {
    deps.mutation.sync();
    return wait('waiting_for_mutation', 'the Mutation is being written');
  }
  record.parts.mutation = false;
  deps.trust.want(account, new Map());
`,
      },
    ],
  },
];

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '12' },
    seed: { type: 'string', default: '1' },
    test: { type: 'string', multiple: true, default: [] },
  },
});
const root = fileURLToPath(new URL('../../', import.meta.url));
const left = new Set(['node_modules', 'dist', '.git', 'coverage']);

for (const [index, mutation] of mutations.entries()) {
  if (values.only !== undefined && Number(values.only) !== index + 1) continue;
  const { invariant, what } = mutation;
  console.log(`\n${index + 1}. ${typeof invariant === 'number' ? 'invariant ' : ''}${invariant}: ${what}`);
  const tree = mkdtempSync(join(tmpdir(), 'irsa-svc-mutation-'));
  try {
    cpSync(root, tree, { recursive: true, filter: (path) => !left.has(path.slice(root.length).split('/')[0] ?? '') });
    symlinkSync(join(root, 'node_modules'), join(tree, 'node_modules'));
    mutation.edits.forEach((edit) => {
      mutate(tree, edit);
    });
    const some = ['--no-config', '--node-option', 'import=tsx', '--exit', '--timeout', '20000', ...values.test];
    const args = values.test.length > 0 ? some : [];
    const unit = run(tree, ['node_modules/.bin/mocha', '--reporter', 'json', ...args], 300_000);
    console.log(`   tests: ${names(failedTests(unit))}`);
    const options = ['--rounds', values.rounds, '--seed', values.seed];
    const faults = run(tree, ['--import', 'tsx', 'test/faults/main.ts', ...options], 500_000);
    console.log(`   faults: ${names(failedRounds(faults))}`);
  } finally {
    rmSync(tree, { recursive: true, force: true });
  }
}

/** @throws Error where the text is not there just once: the mutation is to be brought up to date. */
function mutate(tree: string, { file, from, to }: Mutation['edits'][0]): void {
  const path = join(tree, file);
  const text = readFileSync(path, 'utf8');
  const parts = text.split(from);
  if (parts.length !== 2) throw new Error(`${file}: ${String(from)} is there ${parts.length - 1} times`);
  writeFileSync(path, parts.join(to));
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
