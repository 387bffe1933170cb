/** Proves that the run ids of tests are valid by the contract, and differ for each number. */
import assert from 'node:assert/strict';
import { runId } from './world.ts';

describe('the run ids of tests', () => {
  it('are 24 hex digits, and differ for every two numbers', () => {
    const ids = Array.from({ length: 5_000 }, (_, number) => runId(number));
    assert.equal(new Set(ids).size, ids.length);
    for (const id of ids) assert.match(id, /^[0-9a-f]{24}$/);
  });
});
