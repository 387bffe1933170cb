/** Proves that the workflows pin third-party actions by commit, since a tag can be moved and a commit cannot. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';

const folder = join(import.meta.dirname, '..', '..', '.github', 'workflows');

interface Workflow {
  permissions?: Record<string, string>;
  defaults?: { run?: { shell?: string } };
  jobs: Record<string, { steps: { uses?: string; run?: string }[] }>;
}

describe('the workflows', () => {
  const names = readdirSync(folder);

  for (const name of names) {
    it(`${name} pins each action by commit, names its version, and has only read permission by default`, () => {
      const text = readFileSync(join(folder, name), 'utf8');
      const { permissions, jobs } = parse(text) as Workflow;
      assert.deepEqual(permissions, { contents: 'read' });
      const used = Object.values(jobs).flatMap(({ steps }) => steps.flatMap(({ uses }) => uses ?? []));
      assert.ok(used.length > 0);
      for (const action of used) assert.match(action, /^[\w-]+\/[\w-]+@[0-9a-f]{40}$/);
      const said = text.split('\n').filter((line) => /uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/.test(line));
      assert.equal(said.length, used.length);
    });
  }

  it('that have pipes use a shell in which a pipe fails with its first command', () => {
    const workflows = names.map((name) => parse(readFileSync(join(folder, name), 'utf8')) as Workflow);
    const piping = workflows.filter(({ jobs }) =>
      Object.values(jobs).some(({ steps }) => steps.some(({ run = '' }) => / \| \w/.test(run))),
    );
    assert.ok(piping.length > 0);
    // Named, the shell is `bash -eo pipefail`, and `bash -e` otherwise:
    // https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idstepsshell
    for (const { defaults } of piping) assert.equal(defaults?.run?.shell, 'bash');
  });
});
