/** Proves that the config file is complete at any time: replaced by a rename, and kept on errors. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Disk, systemDisk, writeConfigFile } from '../../src/sidecar/config-file.ts';
import { Failure } from '../../src/sidecar/failure.ts';
import { configText } from './support.ts';

describe('the config file', () => {
  let folder: string;
  let path: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-config-'));
    path = join(folder, '.aws', 'config');
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  it('is written with its folder and mode 0644, and leaves no temporary file', () => {
    const umask = process.umask(0o077);
    try {
      assert.equal(writeConfigFile(path, configText(['a'])), true);
    } finally {
      process.umask(umask);
    }
    assert.equal(readFileSync(path, 'utf8'), configText(['a']));
    assert.equal(statSync(path).mode & 0o777, 0o644);
    assert.deepEqual(readdirSync(join(folder, '.aws')), ['config']);
  });

  it('is not rewritten when only its time differs', () => {
    writeConfigFile(path, configText(['a'], '2026-11-21T12:00:00.000Z'));
    const { ino } = statSync(path);
    assert.equal(writeConfigFile(path, configText(['a'], '2026-11-21T12:15:00.000Z')), false);
    assert.equal(statSync(path).ino, ino);
    assert.match(readFileSync(path, 'utf8'), /T12:00:00/);
    assert.equal(writeConfigFile(path, configText(['a', 'b'], '2026-11-21T12:15:00.000Z')), true);
    assert.match(readFileSync(path, 'utf8'), /T12:15:00/);
  });

  it('is not rewritten when only its time differs and the user has no roles', () => {
    const text = (time: string) => `# irsa-svc: no roles of alice for run 1, written ${time}: no organization\n`;
    assert.equal(writeConfigFile(path, text('2026-11-21T12:00:00.000Z')), true);
    assert.equal(writeConfigFile(path, text('2026-11-21T12:15:00.000Z')), false);
  });

  it('replaces a link at the path of its temporary file, and does not write through it', () => {
    mkdirSync(join(folder, '.aws'));
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'untouched');
    symlinkSync(victim, join(folder, '.aws', '.config.irsa-new'));
    assert.equal(writeConfigFile(path, configText(['a'])), true);
    assert.equal(readFileSync(victim, 'utf8'), 'untouched');
    assert.equal(readFileSync(path, 'utf8'), configText(['a']));
  });

  it('stays unchanged when the disk is full', function () {
    if (!existsSync('/dev/full')) return skip(this, '/dev/full');
    writeConfigFile(path, configText(['a']));
    const full: Disk = { ...systemDisk, openSync: () => fs.openSync('/dev/full', 'w') };
    assert.throws(
      () => writeConfigFile(path, configText(['b']), full),
      (error) => error instanceof Failure && error.code === 'disk_full' && error.message.includes('ENOSPC'),
    );
    assert.equal(readFileSync(path, 'utf8'), configText(['a']));
  });

  it('fails with config_not_writable where its folder cannot be written', () => {
    if (process.getuid?.() === 0) {
      writeFileSync(join(folder, '.aws'), 'a file where the folder should be');
    } else {
      mkdirSync(join(folder, '.aws'));
      chmodSync(join(folder, '.aws'), 0o555);
    }
    assert.throws(
      () => writeConfigFile(path, configText(['a'])),
      (error) => error instanceof Failure && error.code === 'config_not_writable',
    );
  });

  it('keeps its old text when the process is killed between writing and renaming', async () => {
    writeConfigFile(path, configText(['old']));
    // The child writes as the sidecar does, and stops before the rename.
    const script = `
      import { writeSync } from 'node:fs';
      import { systemDisk, writeConfigFile } from './src/sidecar/config-file.ts';
      const renameSync = () => { writeSync(1, 'written'); Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); };
      writeConfigFile(process.env.TARGET, ${JSON.stringify(configText(['new']))}, { ...systemDisk, renameSync });`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
      cwd: join(import.meta.dirname, '..', '..'),
      env: { ...process.env, TARGET: path },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    child.kill('SIGKILL');
    assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL']);
    assert.equal(readFileSync(path, 'utf8'), configText(['old']));
    assert.equal(readFileSync(join(folder, '.aws', '.config.irsa-new'), 'utf8'), configText(['new']));
    assert.equal(writeConfigFile(path, configText(['newer'])), true);
    assert.deepEqual(readdirSync(join(folder, '.aws')), ['config']);
  });
});

function skip(test: Mocha.Context, what: string): void {
  console.warn(`SKIPPED: ${test.test?.fullTitle()}: this machine has no ${what}`);
  test.skip();
}
