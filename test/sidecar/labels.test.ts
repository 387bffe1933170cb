/** Proves the reading of pod labels as the downward API writes them. */
import assert from 'node:assert/strict';
import { Failure } from '../../src/sidecar/failure.ts';
import { identifyRun, parseLabels } from '../../src/sidecar/labels.ts';
import { runId } from './support.ts';

const other = 'a'.repeat(24);

describe('pod labels', () => {
  it("are parsed with Go's escapes", () => {
    const text = [
      'app.kubernetes.io/name="run-1"',
      String.raw`a="say \"hi\" \\ there"`,
      String.raw`b="tab\tline\nbell\a caf\u00e9 \U0001f600 \x41"`,
      'empty=""',
      'no quotes=here',
      'broken="\\"',
      '',
    ].join('\n');
    assert.deepEqual(Object.fromEntries(parseLabels(text)), {
      'app.kubernetes.io/name': 'run-1',
      a: 'say "hi" \\ there',
      b: 'tab\tline\nbell\x07 caf\u00e9 \u{1f600} A',
      empty: '',
    });
  });

  it('identify the run by execution id, by name, or else by DOMINO_RUN_ID', () => {
    const byId = `dominodatalab.com/execution-id="${runId}"`;
    const byName = `app.kubernetes.io/name="run-${runId}"`;
    assert.equal(identifyRun(`${byId}\napp.kubernetes.io/name="run-${other}"`, other).run, runId);
    assert.equal(identifyRun(`${byName}\n`, other).run, runId);
    assert.equal(identifyRun('app.kubernetes.io/name="ray"\n', runId).run, runId);
    assert.equal(identifyRun(undefined, `run-${runId}`).run, runId);
  });

  it('give the workload type, unless it is not a valid label', () => {
    const text = (type: string) =>
      `dominodatalab.com/execution-id="${runId}"\ndominodatalab.com/irsa-workload-type="${type}"`;
    assert.equal(identifyRun(text('cluster-worker'), undefined).workloadType, 'cluster-worker');
    assert.equal(identifyRun(text('two words'), undefined).workloadType, undefined);
    assert.equal(identifyRun(undefined, runId).workloadType, undefined);
  });

  it('that name no run are refused with run_unknown', () => {
    for (const text of [undefined, '', 'app.kubernetes.io/name="ray"', 'dominodatalab.com/execution-id="../x"']) {
      assert.throws(
        () => identifyRun(text, undefined),
        (error) => error instanceof Failure && error.code === 'run_unknown',
      );
    }
  });
});
