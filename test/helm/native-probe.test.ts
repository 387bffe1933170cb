/** Proves the startup probe of the native sidecar, by the shell that the kubelet runs it in. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { needsHelm } from './objects.ts';
import { objectNamed, type Rendered, renderChart } from './render.ts';

interface Rules extends Rendered {
  rules: { insertContainer?: { spec: { startupProbe: { exec: { command: string[] } } } } }[];
}

describe('the startup probe of the native sidecar', function () {
  this.timeout(30_000);
  let folder: string;
  before(needsHelm);
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-probe-'));
    mkdirSync(join(folder, 'podinfo'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const command = (maxWaitSeconds: number) => {
    const objects = renderChart({ irsa_client_sidecar: { mode: 'native', native: { maxWaitSeconds } } });
    const { rules } = objectNamed<Rules>(objects, 'Mutation', 'irsa');
    return rules.flatMap(({ insertContainer }) => insertContainer?.spec.startupProbe.exec.command ?? []);
  };

  /** Its exit code in a pod whose volumes are `age` seconds old. @param ready the sidecar's own probe's exit code. */
  function probe(maxWaitSeconds: number, age: number, ready: number): number | null {
    writeFileSync(
      join(folder, 'node'),
      `#!/bin/sh\n[ "$*" = "dist/src/sidecar/main.js probe" ] && exit ${ready}\nexit 9\n`,
    );
    chmodSync(join(folder, 'node'), 0o755);
    const then = Date.now() / 1000 - age;
    utimesSync(join(folder, 'podinfo'), then, then);
    const env = { PATH: `${folder}:${process.env.PATH}`, POD_INFO_PATH: join(folder, 'podinfo', 'labels') };
    const [program = '', ...args] = command(maxWaitSeconds);
    return spawnSync(program, args, { env, encoding: 'utf8' }).status;
  }

  it('succeeds when the sidecar is ready, and fails when it is not', () => {
    assert.equal(probe(120, 5, 0), 0);
    assert.equal(probe(120, 5, 1), 1);
  });

  it('succeeds without the sidecar after maxWaitSeconds, so that the workload starts', () => {
    assert.equal(probe(120, 115, 1), 1);
    assert.equal(probe(120, 121, 1), 0);
  });

  it('waits without a limit when maxWaitSeconds is 0', () => {
    assert.deepEqual(command(0), ['node', 'dist/src/sidecar/main.js', 'probe']);
    assert.equal(probe(0, 86_400, 1), 1);
  });
});
