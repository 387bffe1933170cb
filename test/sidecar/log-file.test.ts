/** Proves that the log file stays small, and that a file that cannot be written ends nothing. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLogFile } from '../../src/sidecar/log-file.ts';

describe('the log file', () => {
  let folder: string;
  const troubles: unknown[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'irsa-log-'));
    troubles.length = 0;
  });
  afterEach(() => rmSync(folder, { recursive: true }));
  const open = (...path: string[]) => openLogFile(join(folder, ...path), 100, (error) => void troubles.push(error));
  const text = (...path: string[]) => readFileSync(join(folder, ...path), 'utf8');

  it('is renamed when it is full, and one older file is kept', () => {
    const file = open('irsa', 'app.log');
    for (let line = 10; line < 40; line += 1) file.write(`${line}${' '.repeat(37)}\n`);
    assert.deepEqual(readdirSync(join(folder, 'irsa')).sort(), ['app.log', 'app.log.1']);
    for (const name of ['app.log', 'app.log.1']) assert.ok(text('irsa', name).length <= 100);
    assert.deepEqual(text('irsa', 'app.log').match(/\d+/g), ['38', '39']);
    assert.deepEqual(text('irsa', 'app.log.1').match(/\d+/g), ['36', '37']);
  });

  it('continues after a restart, and counts what it already holds', () => {
    open('app.log').write(`${'a'.repeat(59)}\n`);
    open('app.log').write(`${'b'.repeat(59)}\n`);
    assert.deepEqual([text('app.log.1')[0], text('app.log')[0]], ['a', 'b']);
  });

  it('reports once that it cannot be written, and continues when it can', () => {
    writeFileSync(join(folder, 'irsa'), 'a file where the folder should be');
    const file = open('irsa', 'app.log');
    file.write('one\n');
    file.write('two\n');
    assert.equal(troubles.length, 1);
    rmSync(join(folder, 'irsa'));
    file.write('three\n');
    assert.equal(text('irsa', 'app.log'), 'three\n');
  });
});
