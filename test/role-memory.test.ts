/** Proves what the writer makes of a document that it did not expect. */
import assert from 'node:assert/strict';
import { recordDrift } from '../src/drift.ts';
import { findDrift, mayBeStale, newRoleMemory, type RoleMemory, remember } from '../src/role-memory.ts';
import { FakeClock } from './support/clock.ts';

const set = (...names: string[]) => new Set(names);

describe('the memory of a role', () => {
  let memory: RoleMemory;
  let clock: FakeClock;
  const accepted = (...names: string[]) =>
    remember(memory, { subjects: set(...names), at: clock.monotonic(), how: 'accepted' });

  beforeEach(() => {
    memory = newRoleMemory(2048);
    clock = new FakeClock();
  });

  it('knows nothing at first, and takes what it is shown', () => {
    assert.equal(findDrift(memory, set('a'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(memory, set('a'), 0), false);
  });

  it('finds what somebody else took out and put in', () => {
    accepted('a', 'b');
    assert.deepEqual(findDrift(memory, set('b', 'x'), clock.monotonic()), { missing: ['a'], extra: ['x'] });
    assert.equal(findDrift(memory, set('b', 'a'), clock.monotonic()), undefined);
  });

  it('takes a document of ours from before for an old reading, not for an edit, for a quarter of a minute', async () => {
    accepted('a');
    await clock.advance(10_000);
    accepted('a', 'b');
    assert.equal(findDrift(memory, set('a'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(memory, set('a'), clock.monotonic()), true);
    await clock.advance(10_000);
    assert.deepEqual(findDrift(memory, set('a'), clock.monotonic()), { missing: ['b'], extra: [] });
    assert.equal(mayBeStale(memory, set('a'), clock.monotonic()), true);
    await clock.advance(51_000);
    assert.equal(mayBeStale(memory, set('a'), clock.monotonic()), false);
  });

  it('calls nothing an edit while it is not known whether a write took, and writes again to be sure', () => {
    accepted('a');
    remember(memory, { subjects: set('a', 'b'), at: clock.monotonic(), how: 'lost' });
    assert.equal(findDrift(memory, set('a'), clock.monotonic()), undefined);
    assert.equal(findDrift(memory, set('x'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(memory, set('a', 'b'), clock.monotonic()), true);
  });

  it('does not blame anybody for what the holder before did last', () => {
    remember(memory, { subjects: set('a'), at: clock.monotonic(), how: 'inherited' });
    assert.equal(findDrift(memory, set('a', 'b'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(memory, set('a', 'b'), clock.monotonic()), true);
    assert.equal(mayBeStale(memory, set('a'), clock.monotonic()), false);
  });

  it('repairs three drifts at once, then with pauses that grow to five minutes, and forgets in an hour', async () => {
    const pauses = [];
    for (let time = 0; time < 11; time += 1) pauses.push(recordDrift(memory, { missing: ['a'], extra: [] }, clock));
    assert.deepEqual(pauses.slice(0, 6), [0, 0, 0, 5_000, 10_000, 20_000]);
    assert.equal(pauses.at(-1), 300_000);
    assert.equal(memory.contested?.until, 300_000);
    assert.equal(memory.drift?.count, 11);
    await clock.advance(61 * 60_000);
    assert.equal(recordDrift(memory, { missing: ['a'], extra: [] }, clock), 0);
    assert.equal(memory.contested, undefined);
  });
});
