/** Proves that every line that `npm run dev` prints works when it is pasted. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { which } from '../stack/clients.ts';
import { openPlayground, type Playground, usableLines } from './playground.ts';

const execute = promisify(execFile);

describe('npm run dev', function () {
  // It compiles the service and starts it, as the command does.
  this.timeout(60_000);
  let playground: Playground;

  before(async function () {
    if (which('curl') === undefined || which('bash') === undefined) {
      console.warn('SKIPPED: npm run dev is not tried: this machine has no curl or no bash');
      this.skip();
    }
    playground = await openPlayground();
  });
  after(() => playground?.system.stop());

  for (const { about, typed, shows } of usableLines()) {
    it(about, async () => {
      const { stdout } = await execute('bash', ['-c', `. ${playground.variables}; ${typed}`]);
      assert.match(stdout, shows);
    });
  }
});
