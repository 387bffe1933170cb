/** Proves the contract by the fuzzer schemathesis, as an administrator, as a user and without a token. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectFile } from '../../../src/lib/project-file.ts';
import { startChild } from '../../stack/process.ts';
import { runId, startWorld, type World } from '../../support/world.ts';
import { pythonTool, skipLoudly, Unavailable } from '../tools.ts';

describe('the contract: schemathesis 4.32.5', function () {
  this.timeout(900_000);
  let world: World;
  let url: string;
  let program: string;
  let folder: string;

  before(async function () {
    try {
      program = join(pythonTool('schemathesis', ['schemathesis==4.32.5']), 'schemathesis');
    } catch (error) {
      if (error instanceof Unavailable) skipLoudly(this, error.message);
      throw error;
    }
    folder = mkdtempSync(join(tmpdir(), 'irsa-schemathesis-'));
    world = await startWorld({ LEASE_SECONDS: '60', GRANT_TIMEOUT_SECONDS: '2', ALLOW_DOMINO_API_KEY: 'false' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    const replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('acme-list-bucket-role'));
    world.startRun('646d27b817c28b5ea4b5b0c1', 'alice');
    world.startRun(runId(1), 'alice');
    url = replica.url;
  });
  after(async () => {
    await world?.stop();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  for (const caller of ['admin', 'alice', undefined]) {
    it(`finds no violation as ${caller ?? 'a caller without a token'}`, async () => {
      const exp = Math.floor(Date.now() / 1000) + 3600;
      const header = caller && ['--header', `Authorization: Bearer ${world.domino.token(caller, { exp })}`];
      const args = [
        ...['--config-file', join(import.meta.dirname, 'schemathesis.toml')],
        ...['run', projectFile('openapi.yaml'), '--url', url],
        // One seed, so that a finding comes again; every kind of check, as unless told; two minutes at most.
        ...['--seed', '12', '--max-examples', '15', '--max-time', '120', '--no-color'],
        ...(header || []),
      ];
      // It leaves what it found in the folder where it runs.
      const child = startChild(program, args, { cwd: folder });
      const code = await child.exited;
      assert.equal(code, 0, child.output.join('\n'));
      assert.match(child.output.join('\n'), /passed/);
    });
  }
});
