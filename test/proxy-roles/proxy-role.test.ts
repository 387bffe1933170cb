/** Proves what the leader makes of a document that it did not expect. */
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

describe('what is observed of a role', () => {
  let role: ProxyRole;
  let clock: FakeClock;
  const accepted = (...names: string[]) =>
    remember(role, { subjects: set(...names), at: clock.monotonic(), how: 'accepted' });

  beforeEach(() => {
    role = newProxyRole('arn:aws:iam::111111111111:role/p', 2048);
    clock = new FakeClock();
  });

  it('knows nothing at first, and takes what it is shown', () => {
    assert.equal(findDrift(role, set('a'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a'), 0), false);
  });

  it('finds what an external change removed and added', () => {
    accepted('a', 'b');
    assert.deepEqual(findDrift(role, set('b', 'x'), clock.monotonic()), { missing: ['a'], extra: ['x'] });
    assert.equal(findDrift(role, set('b', 'a'), clock.monotonic()), undefined);
  });

  it('takes a document of ours from before for an old reading, not for an edit, for a quarter of a minute', async () => {
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

  it('calls nothing an edit while it is not known whether a write took, and writes again to be sure', () => {
    accepted('a');
    remember(role, { subjects: set('a', 'b'), at: clock.monotonic(), how: 'lost' });
    assert.equal(findDrift(role, set('a'), clock.monotonic()), undefined);
    assert.equal(findDrift(role, set('x'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a', 'b'), clock.monotonic()), true);
  });

  it('does not blame anybody for what the holder before did last', () => {
    remember(role, { subjects: set('a'), at: clock.monotonic(), how: 'recovered' });
    assert.equal(findDrift(role, set('a', 'b'), clock.monotonic()), undefined);
    assert.equal(mayBeStale(role, set('a', 'b'), clock.monotonic()), true);
    assert.equal(mayBeStale(role, set('a'), clock.monotonic()), false);
  });

  it('repairs three drifts at once, then with pauses that grow to five minutes, and forgets in an hour', async () => {
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

  it('is reconciled for Pod Identity when the last generation was, and again when the same is desired anew', () => {
    const pods = { accounts: set('a'), open: false };
    assert.equal(podsAreReconciled(role), true);
    desirePods(role, pods);
    assert.equal(podsAreReconciled(role), false);
    role.observed.generation = role.desired.generation;
    assert.equal(podsAreReconciled(role), true);
    desirePods(role, pods);
    assert.equal(podsAreReconciled(role), false);
  });

  it('counts as reconciled once the role is gone only when nothing is desired of it', () => {
    desirePods(role, { accounts: set('a'), open: false });
    role.observed.generation = role.desired.generation;
    forgetPods(role);
    assert.equal(podsAreReconciled(role), false);
    desirePods(role, undefined);
    forgetPods(role);
    assert.equal(podsAreReconciled(role), true);
  });
});
