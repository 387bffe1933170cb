/** Proves that clients generated from the contract, in Python and Go, talk to the running service. */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectFile } from '../../../src/lib/project-file.ts';
import { type System, startSystem } from '../../demo/system.ts';
import { goTool, orSkip, pythonTool, run } from '../tools.ts';

const runId = '646d27b817c28b5ea4b5b0c1';
const here = import.meta.dirname;

describe('clients generated from the contract', function () {
  this.timeout(600_000);
  let system: System;
  let folder: string;
  let env: Record<string, string>;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-clients-'));
    system = await startSystem();
    await system.startRun('alice', runId);
  });
  beforeEach(async () => {
    const [admin, user] = await Promise.all([system.stack.token('admin', 300), system.stack.token('alice', 300)]);
    const { target, proxy } = system.roles.list;
    const people = { ADMIN_TOKEN: admin, USER_TOKEN: user, RUN_ID: runId };
    const { url } = system.replica;
    env = { ...people, IRSA_URL: url, IRSA_CA: system.files.certificate, TARGET_ROLE: target, PROXY_ROLE: proxy };
  });
  after(async () => {
    await system.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  function assertWalk(printed: string): void {
    assert.deepEqual(JSON.parse(printed), {
      preview_fits: true,
      stored: [system.roles.list.proxy],
      profile: '[profile acme-list-bucket-role]',
      missing_run: 'run_not_found',
      members: [`run-${runId}`],
      nobody: 'unauthenticated',
    });
  }

  it('the Python client by openapi-python-client makes all calls of its walk', async function () {
    const bin = await orSkip(this, () => pythonTool('python-client', ['openapi-python-client==0.29.1']));
    const into = join(folder, 'irsa_client');
    const args = ['generate', '--path', projectFile('openapi.yaml'), '--output-path', into, '--meta', 'none'];
    const { stderr } = run(join(bin, 'openapi-python-client'), args);
    // The generator warns of each answer that it skips; the contract's own text in YAML is the only one.
    assert.deepEqual([...stderr.matchAll(/^WARNING parsing (.*)$/gm)].map(([, what]) => what).sort(), [
      'GET /openapi.yaml within service.',
    ]);
    assertWalk(run(join(bin, 'python'), [join(here, 'walk.py')], { ...env, PYTHONPATH: folder }).stdout);
  });

  it('the Go client by oapi-codegen makes all calls of its walk', async function () {
    const generator = await orSkip(this, () =>
      goTool('oapi-codegen', 'github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen', 'v2.8.2'),
    );
    const module = join(folder, 'go');
    cpSync(join(here, 'go'), module, { recursive: true });
    const config = join(here, 'oapi-codegen.yaml');
    run(generator, ['-config', config, '-o', join(module, 'client.go'), projectFile('openapi.yaml')]);
    await orSkip(this, () => run('go', ['mod', 'download'], {}, { cwd: module }));
    assertWalk(run('go', ['run', '.'], env, { cwd: module }).stdout);
  });
});
