/** Proves how the leader judges a document that it did not expect. */
import assert from 'node:assert/strict';
import {
  desirePods,
  findDrift,
  forgetPods,
  mayBeStale,
  newProxyRole,
  type ProxyRole,
  podsAreReconciled,
  remember,
} from '../../src/proxy-roles/proxy-role.ts';
import { recordDrift } from '../../src/reconcile/drift.ts';
import { FakeClock } from '../support/clock.ts';

const set = (...names: string[]) => new Set(names);

describe('the observed state of a proxy role', () => {
  let role: ProxyRole;
  let clock: FakeClock;
  const accepted = (...names: string[]) =>
    remember(role, { subjects: set(...names), at: clock.monotonic(), how: 'accepted' });

  beforeEach(() => {
    role = newProxyRole('arn:aws:iam::111111111111:role/p', 2048);
    clock = new FakeClock();
  });

  it('treats the first document as neither changed nor stale', () => {
    assert.equal(findDrift(role, set('a'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a'), 0), false);
  });

  it('finds the members that an external change removed and added', () => {
    accepted('a', 'b');
    assert.deepEqual(findDrift(role, set('b', 'x'), clock.monotonic()), { missing: ['a'], extra: ['x'] });
    assert.equal(findDrift(role, set('b', 'a'), clock.monotonic()), undefined);
  });

  it('treats an earlier version of our own document as a stale read, not an edit, for 15 seconds', async () => {
    accepted('a');
    await clock.advance(10_000);
    accepted('a', 'b');
    assert.equal(findDrift(role, set('a'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a'), clock.monotonic()), true);
    await clock.advance(10_000);
    assert.deepEqual(findDrift(role, set('a'), clock.monotonic()), { missing: ['b'], extra: [] });
    assert.equal(mayBeStale(role, set('a'), clock.monotonic()), true);
    await clock.advance(51_000);
    assert.equal(mayBeStale(role, set('a'), clock.monotonic()), false);
  });

  it('reports no external edit after a write without an answer, and writes again', () => {
    accepted('a');
    remember(role, { subjects: set('a', 'b'), at: clock.monotonic(), how: 'lost' });
    assert.equal(findDrift(role, set('a'), clock.monotonic()), undefined);
    assert.equal(findDrift(role, set('x'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a', 'b'), clock.monotonic()), true);
  });

  it('reports no external edit right after a take-over, and treats an unexpected document as stale', () => {
    remember(role, { subjects: set('a'), at: clock.monotonic(), how: 'recovered' });
    assert.equal(findDrift(role, set('a', 'b'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a', 'b'), clock.monotonic()), true);
    assert.equal(mayBeStale(role, set('a'), clock.monotonic()), false);
  });

  it('repairs three external changes at once, later ones after pauses, and starts afresh after an hour', async () => {
    const pauses = [];
    for (let time = 0; time < 11; time += 1)
      pauses.push(recordDrift(role.conditions, { missing: ['a'], extra: [] }, clock));
    assert.deepEqual(pauses.slice(0, 6), [0, 0, 0, 5_000, 10_000, 20_000]);
    assert.equal(pauses.at(-1), 300_000);
    assert.equal(role.conditions.contested?.until, 300_000);
    assert.equal(role.conditions.drift?.count, 11);
    await clock.advance(61 * 60_000);
    assert.equal(recordDrift(role.conditions, { missing: ['a'], extra: [] }, clock), 0);
    assert.equal(role.conditions.contested, undefined);
  });

  it('needs another reconcile for Pod Identity each time its accounts are set, even to the same value', () => {
    const pods = { accounts: set('a'), open: false };
    assert.equal(podsAreReconciled(role), true);
    desirePods(role, pods);
    assert.equal(podsAreReconciled(role), false);
    role.observed.generation = role.desired.generation;
    assert.equal(podsAreReconciled(role), true);
    desirePods(role, pods);
    assert.equal(podsAreReconciled(role), false);
  });

  it('counts a deleted role as reconciled for Pod Identity only when no account is to have it', () => {
    desirePods(role, { accounts: set('a'), open: false });
    role.observed.generation = role.desired.generation;
    forgetPods(role);
    assert.equal(podsAreReconciled(role), false);
    desirePods(role, undefined);
    forgetPods(role);
    assert.equal(podsAreReconciled(role), true);
  });
});
