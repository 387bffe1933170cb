/** Proves that the project's commands refuse wrong arguments: a check that ran no rounds would prove nothing. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './pages.ts';

describe("the project's own commands", function () {
  this.timeout(60_000);
  const cases: readonly [program: string, args: string[], said: RegExp][] = [
    ['test/demo/demo.ts', ['--shorter'], /^Unknown option '--shorter'/],
    ['test/bench/main.ts', ['nothing'], /^no bench nothing; there are /],
    ['test/bench/main.ts', ['tokens', '--runs', 'many'], /^--runs: expected a whole number of at least 1, not "many"$/],
    ['test/fuzz/main.ts', ['many'], /^documents: expected a whole number of at least 1, not "many"$/],
    ['test/faults/main.ts', ['--rounds', 'many'], /^--rounds: expected/],
    ['test/faults/main.ts', ['--lanes', '0'], /^--lanes: expected/],
    ['test/faults/main.ts', ['--fault', 'none such'], /^no fault "none such"; there are /],
    ['test/faults/mutate.ts', ['--only', '99'], /^--only: there are \d+ mutations$/],
  ];

  for (const [program, args, said] of cases) {
    it(`${program} ${args.join(' ')}: refused in one line`, () => {
      const { status, stderr } = spawnSync(process.execPath, ['--import', 'tsx', program, ...args], {
        cwd: join(root),
        encoding: 'utf8',
      });
      assert.equal(status, 1, stderr);
      assert.match(stderr.trim(), said);
      assert.equal(stderr.trim().split('\n').length, 1);
    });
  }
});
