/** Proves that no pattern in a role's trust policy, which other teams may write, blocks the code that reads it. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../support/pages.ts';

/** As long as a trust policy may be; a search that tried each way to match would not end. */
const patterns = ['*'.repeat(7_000), '*a'.repeat(3_500), '?*'.repeat(3_500), 'arn:aws:eks:*:*:cluster/*'.repeat(250)];

describe('hostile patterns in a trust policy', function () {
  this.timeout(60_000);
  for (const pattern of patterns) {
    it(`do not block a reader: ${pattern.slice(0, 10)}…`, () => {
      // In a process of its own, since nothing else can stop a regular expression.
      const program = join(root, 'test/support/hostile-policies.ts');
      const args = ['--import', 'tsx', program, pattern];
      const { status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: 45_000 });
      assert.equal(status, 0, stderr);
    });
  }
});
