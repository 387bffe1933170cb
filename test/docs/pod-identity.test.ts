/** Proves that the documentation of Pod Identity names every reason and state that there is. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { podIdentityReasonCodes } from '../../src/pod-identity/record.ts';
import { podIdentityStates } from '../../src/pod-identity/status.ts';

const textOf = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');
/** What stands as code in the first cells of tables. */
const firstCells = (text: string) =>
  new Set([...text.matchAll(/^\| ([^|]+) \|/gm)].flatMap(([, cell = '']) => cell.match(/(?<=`)\w+(?=`)/g) ?? []));

describe('documentation of Pod Identity', () => {
  it('says what to do for every reason and state', () => {
    const told = firstCells(textOf('docs/pod-identity.md'));
    assert.deepEqual(
      [...podIdentityReasonCodes, ...podIdentityStates, 'not_checked_yet', 'mutations_unknown'].filter(
        (code) => !told.has(code),
      ),
      [],
    );
  });

  it('says in the runbook what to do for every reason that the alert can name', () => {
    const told = firstCells(textOf('docs/runbook.md').split('## IrsaPodIdentityProblem')[1]?.split('\n## ')[0] ?? '');
    const quiet = 'waiting_for_pods';
    assert.deepEqual(
      podIdentityReasonCodes.filter((code) => code !== quiet && !told.has(code)),
      [],
    );
    assert.ok(!told.has(quiet));
  });
});
