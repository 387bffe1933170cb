/** Proves one reconcile of a proxy role where the timing and IAM's answers must be exact. */
import assert from 'node:assert/strict';
import { AwsError } from '../../src/aws/error.ts';
import { createRateLimiter } from '../../src/aws/rate-limiter.ts';
import { createLog } from '../../src/lib/log.ts';
import type { Placements } from '../../src/proxy-roles/placements.ts';
import { newProxyRole, type ProxyRole, recover } from '../../src/proxy-roles/proxy-role.ts';
import { type RoleReconcileDeps, reconcileRole } from '../../src/proxy-roles/reconcile.ts';
import { editTrustPolicy, type TrustScope } from '../../src/trust-policy/document.ts';
import { FakeClock } from '../support/clock.ts';

const scope: TrustScope = {
  issuer: 'oidc.example.com/id/A',
  audience: 'sts.amazonaws.com',
  providerArn: 'arn:aws:iam::111111111111:oidc-provider/oidc.example.com/id/A',
  namespace: 'domino-compute',
  cluster: 'arn:aws:eks:us-west-2:111111111111:cluster/acme',
};
const blank = '{"Version":"2012-10-17","Statement":[]}';
const withMembers = (...members: string[]) => {
  const edit = editTrustPolicy(scope, blank, members, () => false, 2048);
  return edit.kind === 'refused' ? '' : edit.document;
};

describe('a reconcile of a proxy role', () => {
  let clock: FakeClock;
  let role: ProxyRole;
  let shown: string;
  let empty: boolean;
  let written: string[];
  let held: boolean;
  let failing: AwsError | undefined;
  let unread: AwsError | undefined;
  let loses: boolean;
  let capacity: number;
  let revoked: number[];
  let pauses: number[];
  let wanted: string[];
  let asked: number;

  beforeEach(() => {
    clock = new FakeClock();
    [shown, empty, written, held, failing, revoked, pauses, wanted, asked] = [
      blank,
      false,
      [],
      true,
      undefined,
      [],
      [],
      [],
      0,
    ];
    [unread, loses, capacity] = [undefined, false, Infinity];
    const arn = 'arn:aws:iam::111111111111:role/p';
    role = newProxyRole(arn, 2048);
  });

  const deps = (): RoleReconcileDeps => ({
    iam: {
      getTrustPolicy: async () => {
        if (unread) throw unread;
        return shown;
      },
      updateTrustPolicy: async (_role, document, _signal, mayWrite) => {
        if (!mayWrite()) throw new AwsError('not_holder', 'no');
        if (failing) throw failing;
        written.push(document);
        shown = document;
        if (loses) throw new AwsError('unavailable', 'no answer');
      },
      clientIdsOf: async () => [],
      identity: () => Promise.reject(new Error('not asked')),
    },
    reads: createRateLimiter(10, clock),
    writes: createRateLimiter(10, clock),
    placements: {
      setCapacity: (_role: ProxyRole, room: number) => {
        capacity = room;
      },
      reconsider() {},
      isElsewhere: () => false,
    } as unknown as Placements,
    scope,
    maxChars: 2048,
    clock,
    log: createLog('silent'),
    lease: { holds: () => held, holdsUntil: () => clock.monotonic() + 10_000 },
    audiences: { lists: async () => true },
    isStillByTokens: async () => false,
    isShutOut: () => false,
    isProxy: () => true,
    keep: () => false,
    isInDoubt: () => empty,
    stillRequested: async (_role, names) => {
      asked += 1;
      return new Set(names.filter((name) => wanted.includes(name)));
    },
    released: async () => false,
    onWritten: () => undefined,
    onRevoked: (seconds) => revoked.push(seconds),
    onDrift: (_role, _drift, pauseMs) => pauses.push(pauseMs),
  });
  const pass = (urgent = false) =>
    reconcileRole(deps(), role, { mayWrite: true, urgent }, new AbortController().signal);
  const status = { role_arn: 'p', members: {}, refused: [], characters_used: 0, characters_allowed: 2048 };
  const members = (...names: string[]) => {
    role.desired.members.clear();
    for (const name of names) role.desired.members.set(name, `want-${name}`);
  };

  it('invariant 1: does not write once the lease is lost', async () => {
    members('a');
    held = false;
    const outcome = await pass();
    assert.ok(outcome.kind === 'failed' && outcome.error.code === 'not_holder');
    assert.deepEqual([written, role.observed.members.size], [[], 0]);
  });

  it('invariant 6: counts a service account as a member only after IAM has accepted it', async () => {
    members('a');
    failing = new AwsError('unavailable', 'no answer');
    assert.equal((await pass()).kind, 'failed');
    assert.equal(role.observed.members.size, 0);
    failing = undefined;
    // The write may have taken effect, and IAM may show a document from before it, so the leader writes again.
    shown = withMembers('a');
    assert.equal((await pass()).kind, 'done');
    assert.deepEqual([written.length, role.observed.members.get('a')?.want], [1, 'want-a']);
  });

  it('reads a role again 15 s after taking it over, since the first read may be stale', async () => {
    recover(role, { ...status, proxy: true }, scope.namespace, clock.monotonic(), true);
    // The previous leader published no members, and IAM shows a document from before it added some.
    assert.deepEqual([await pass(), role.conditions.unread], [{ kind: 'again', afterMs: 15_000 }, true]);
    shown = withMembers('a', 'b');
    await clock.advance(15_000);
    assert.deepEqual([(await pass()).kind, role.conditions.unread], ['done', false]);
    assert.doesNotMatch(shown, /"\*:domino-compute:/);
  });

  it('invariant 6: writes again a member that the previous leader may have removed, though IAM shows it', async () => {
    const before = { a: { want: '', since: '2026-11-21T12:00:00.000Z' } };
    recover(role, { ...status, members: before }, scope.namespace, clock.monotonic(), true);
    role.observed.members = new Map(Object.entries(before));
    members('a');
    shown = withMembers('a');
    await pass();
    assert.deepEqual([written.length, role.observed.members.get('a')?.want], [1, 'want-a']);
  });

  it('reports no external change while IAM may still show what the previous leader wrote', async () => {
    recover(role, status, scope.namespace, clock.monotonic(), true);
    members('a');
    await pass();
    shown = withMembers('x');
    await clock.advance(10_000);
    await pass();
    assert.deepEqual([pauses, role.observed.members.has('a')], [[], true]);
    assert.match(shown, /:a"/);
    await clock.advance(60_000);
    shown = withMembers('x');
    await pass();
    assert.equal(pauses.length, 1);
  });

  it('invariant 6: a member that an external change removed counts as removed until the repair succeeds', async () => {
    members('a', 'b');
    await pass();
    await clock.advance(20_000);
    shown = withMembers('b');
    failing = new AwsError('access_denied', 'no');
    assert.equal((await pass()).kind, 'failed');
    assert.deepEqual([...role.observed.members.keys()], ['b']);
    failing = undefined;
    assert.equal((await pass()).kind, 'done');
    assert.deepEqual([...role.observed.members.keys()], ['a', 'b']);
  });

  it('keeps counting a member that is missing from a stale read', async () => {
    members('a');
    await pass();
    members('a', 'b');
    await pass();
    await clock.advance(10_000);
    shown = withMembers('a');
    failing = new AwsError('access_denied', 'no');
    assert.equal((await pass()).kind, 'failed');
    assert.deepEqual([...role.observed.members.keys()], ['a', 'b']);
  });

  it('invariant 6: a member removed by a write without an answer counts for no request until IAM answers', async () => {
    members('a', 'b');
    await pass();
    members('b');
    loses = true;
    assert.equal((await pass()).kind, 'failed');
    const wants = () => [...role.observed.members].map(([name, { want }]) => `${name} ${want}`);
    assert.deepEqual(wants(), ['a ', 'b want-b']);
    // Requested again, while IAM refuses reads.
    members('a', 'b');
    unread = new AwsError('access_denied', 'no');
    assert.equal((await pass()).kind, 'failed');
    assert.deepEqual(wants(), ['a ', 'b want-b']);
    [loses, unread] = [false, undefined];
    assert.equal((await pass()).kind, 'done');
    assert.deepEqual([wants(), shown], [['a want-a', 'b want-b'], withMembers('a', 'b')]);
  });

  it('adopts a lower quota that IAM reports, and tries the configured quota again after ten minutes', async () => {
    members('a');
    failing = new AwsError('trust_policy_full', 'full', { quota: 300 });
    assert.deepEqual(await pass(), { kind: 'again', afterMs: 0 });
    members();
    failing = undefined;
    await pass();
    await clock.advance(599_000);
    await pass();
    const tight = capacity;
    assert.equal(role.observed.maxChars, 300);
    await clock.advance(2_000);
    await pass();
    assert.equal(role.observed.maxChars, 2048);
    assert.equal(capacity - tight, 2048 - 300);
  });

  it('writes again when a stale read happens to match the desired members', async () => {
    members('a');
    await pass();
    members('a', 'b');
    await pass();
    members('a');
    shown = withMembers('a');
    await pass();
    assert.deepEqual(written, [withMembers('a'), withMembers('a', 'b'), withMembers('a')]);
    assert.deepEqual(pauses, []);
  });

  it('repairs repeated external changes after growing pauses, and serves an urgent request at once', async () => {
    members('a');
    await pass();
    const overwrite = async () => {
      await clock.advance(20_000);
      shown = withMembers('intruder');
      return pass();
    };
    for (let time = 0; time < 3; time += 1) assert.equal((await overwrite()).kind, 'done');
    assert.equal(shown, withMembers('a'));
    const fourth = await overwrite();
    assert.deepEqual(fourth, { kind: 'again', afterMs: 5_000 });
    assert.equal(shown, withMembers('intruder'));
    assert.deepEqual(pauses, [0, 0, 0, 5_000]);
    // The reconcile after the pause repairs the document, and finds no new drift.
    await clock.advance(5_000);
    assert.equal((await pass()).kind, 'done');
    assert.equal(shown, withMembers('a'));
    assert.equal(pauses.length, 4);
    const fifth = await overwrite();
    assert.deepEqual(fifth, { kind: 'again', afterMs: 10_000 });
    members('a', 'b');
    assert.equal((await pass(true)).kind, 'done');
    assert.equal(shown, withMembers('a', 'b'));
  });

  it('reports how long a removal took', async () => {
    members('a', 'b');
    await pass();
    members('a');
    role.desired.leaving.set('b', clock.monotonic());
    await clock.advance(2_500);
    await pass();
    assert.deepEqual(revoked, [2.5]);
    assert.equal(role.desired.leaving.size, 0);
  });

  it('invariant 3: checks before it removes over ten and half of the members, and holds those requested', async () => {
    const crowd = Array.from({ length: 20 }, (_, index) => `run-${index}`);
    members(...crowd);
    await pass();
    // Removing ten needs no check.
    members(...crowd.slice(0, 10));
    await pass();
    assert.equal(asked, 0);
    members(...crowd);
    await pass();
    members(...crowd.slice(0, 9));
    wanted = crowd.slice(9, 12);
    assert.deepEqual(await pass(), { kind: 'again', afterMs: 5_000 });
    assert.equal(asked, 1);
    assert.equal(shown, withMembers(...crowd.slice(0, 12)));
    assert.deepEqual(role.conditions.brake?.held, [...wanted].sort());
    wanted = [];
    members();
    assert.equal((await pass()).kind, 'done');
    assert.equal(role.conditions.brake, undefined);
  });

  it('invariant 3: checks before it removes any member while the lists from the API server are in doubt', async () => {
    members('a', 'b');
    await pass();
    members();
    empty = true;
    wanted = ['b'];
    assert.deepEqual(await pass(), { kind: 'again', afterMs: 60_000 });
    assert.deepEqual([shown, role.conditions.brake], [withMembers('b'), undefined]);
    wanted = [];
    assert.equal((await pass()).kind, 'done');
    assert.doesNotMatch(shown, /domino-compute/);
  });
});
