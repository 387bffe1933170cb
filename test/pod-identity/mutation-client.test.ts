/** Proves that the keeper of the Mutation copes with lost answers of the API server and with external edits. */
import assert from 'node:assert/strict';
import type { Mutation } from '../../src/kubernetes/client.ts';
import { KubernetesError, type KubernetesErrorKind } from '../../src/kubernetes/transport.ts';
import { createLog } from '../../src/lib/log.ts';
import { MutationKeeper } from '../../src/pod-identity/mutation-client.ts';
import { mutationRules, podIdentityMutation } from '../../src/pod-identity/mutation-rules.ts';
import { FakeClock, settle } from '../support/clock.ts';

type Fate = 'ok' | 'lost' | KubernetesErrorKind;

describe('the keeper of the Mutation', () => {
  let clock: FakeClock;
  let ending: AbortController;
  let there: Mutation | undefined;
  /** What the watch shows: the current Mutation, unless the test sets isBehind. */
  let seen: Mutation | undefined;
  let isBehind: boolean;
  let version: number;
  let fates: Fate[];
  let calls: string[];
  let wanted: Map<string, string>;
  let drifts: number;
  let changes: number;
  let holds: boolean;

  beforeEach(() => {
    clock = new FakeClock();
    ending = new AbortController();
    [there, seen, isBehind, version, drifts, changes, holds] = [undefined, undefined, false, 0, 0, 0, true];
    [fates, calls, wanted] = [[], [], new Map()];
  });

  function put(rules: unknown | undefined, installation = 'domino-field'): Mutation | undefined {
    version += 1;
    const metadata = { name: podIdentityMutation, resourceVersion: String(version), installation };
    there = rules === undefined ? undefined : { ...metadata, rules };
    if (!isBehind) seen = there;
    return there;
  }

  async function call<T>(verb: string, act: () => T): Promise<T> {
    calls.push(verb);
    const fate = verb === 'get' ? 'ok' : (fates.shift() ?? 'ok');
    await settle();
    if (fate !== 'ok' && fate !== 'lost') throw new KubernetesError(fate, fate);
    const result = act();
    if (fate === 'lost') throw new KubernetesError('unavailable', 'no answer');
    return result;
  }
  const guarded = (resourceVersion: string, rules: unknown | undefined) => {
    if (there?.resourceVersion !== resourceVersion) throw new KubernetesError('conflict', 'conflict');
    return put(rules) as Mutation;
  };

  function keeper() {
    return new MutationKeeper({
      kubernetes: {
        getMutation: () => call('get', () => there),
        createMutation: (_name, rules) =>
          call('create', () => {
            if (there) throw new KubernetesError('conflict', 'exists');
            return put(rules) as Mutation;
          }),
        patchMutation: (_name, rules, at) => call('patch', () => guarded(at, rules)),
        deleteMutation: (_name, at) => call('delete', () => void guarded(at, undefined)),
      },
      watched: { get: () => seen },
      installation: 'domino-field',
      wanted: () => new Map(wanted),
      mayWrite: () => holds,
      onChange: () => {
        changes += 1;
      },
      onDrift: () => {
        drifts += 1;
      },
      clock,
      log: createLog('silent'),
      signal: ending.signal,
    });
  }
  const rest = async () => {
    for (let turn = 0; turn < 10; turn += 1) await settle();
  };
  const writes = () => calls.filter((verb) => verb !== 'get');

  it('creates, changes and deletes the Mutation, and does not write what is already so', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    one.sync();
    await rest();
    assert.deepEqual(there?.rules, mutationRules(wanted));
    assert.ok(one.gives('alice-sa'));
    one.sync();
    await rest();
    wanted.set('bob', 'bob-sa');
    one.sync();
    await rest();
    wanted.clear();
    one.sync();
    await rest();
    assert.equal(there, undefined);
    assert.equal(one.gives('alice-sa'), false);
    assert.deepEqual(writes(), ['create', 'patch', 'delete']);
    assert.equal(drifts, 0);
  });

  it('does not report its own write as an external change, even if the answer was lost', async () => {
    const one = keeper();
    for (const users of [['alice'], ['alice', 'bob'], []]) {
      fates = ['lost'];
      wanted = new Map(users.map((user) => [user, `${user}-sa`]));
      one.sync();
      await rest();
      await clock.advance(1_000);
      await rest();
      assert.deepEqual(there?.rules, users.length === 0 ? undefined : mutationRules(wanted));
    }
    assert.equal(drifts, 0);
    assert.deepEqual(writes(), ['create', 'patch', 'delete']);
  });

  it('counts a deleted Mutation as gone, even while the watch still shows it', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    one.sync();
    await rest();
    isBehind = true;
    wanted.clear();
    one.sync();
    await rest();
    assert.equal(one.gives('alice-sa'), false);
    const before = calls.length;
    await clock.advance(60_000);
    assert.equal(calls.length, before);
    // Another tool creates one of that name, with a newer version.
    isBehind = false;
    put(mutationRules(new Map([['mallory', 'alice-sa']])));
    assert.ok(one.gives('alice-sa'));
    one.sync();
    await rest();
    assert.equal(there, undefined);
  });

  it('reports and repairs each external change once, and after the fourth waits without a busy loop', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    one.sync();
    await rest();
    for (let times = 1; times <= 4; times += 1) {
      put([]);
      one.sync();
      await rest();
      assert.equal(drifts, times);
      assert.equal(one.gives('alice-sa'), times < 4);
    }
    const before = calls.length;
    const told = changes;
    for (let times = 0; times < 5; times += 1) {
      one.sync();
      await rest();
    }
    assert.equal(calls.length, before);
    assert.equal(changes, told);
    await clock.advance(5_000);
    await rest();
    assert.ok(one.gives('alice-sa'));
    assert.equal(drifts, 4);
  });

  it('writes an administrator’s change without waiting for that pause', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    one.sync();
    await rest();
    for (let times = 0; times < 4; times += 1) {
      put([]);
      one.sync();
      await rest();
    }
    assert.equal(one.gives('alice-sa'), false);
    wanted.set('bob', 'bob-sa');
    one.sync();
    await rest();
    assert.deepEqual(there?.rules, mutationRules(wanted));
  });

  it('retries a refused write after growing pauses, and notifies no listener', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    fates = Array.from({ length: 6 }, () => 'refused' as const);
    one.sync();
    const at: number[] = [];
    for (let second = 0; second < 70; second += 1) {
      one.sync();
      await rest();
      if (second < 61) assert.equal(changes, 0);
      while (at.length < writes().length) at.push(second);
      await clock.advance(1_000);
    }
    assert.deepEqual(at, [0, 1, 3, 7, 15, 31, 61]);
    assert.ok(one.gives('alice-sa'));
  });

  it('reads the Mutation again after a conflict', async () => {
    const one = keeper();
    put([]);
    wanted.set('alice', 'alice-sa');
    fates = ['conflict', 'not_found'];
    one.sync();
    await rest();
    await clock.advance(5);
    await rest();
    await clock.advance(5);
    await rest();
    assert.deepEqual(there?.rules, mutationRules(wanted));
    assert.equal(drifts, 0);
  });

  it('retries a missing namespace at a limited rate, and writes once it exists', async () => {
    wanted.set('alice', 'alice-sa');
    fates = Array.from({ length: 500 }, () => 'not_found');
    keeper().sync();
    for (let second = 0; second < 60; second += 1) await clock.advance(1_000);
    assert.ok(calls.length > 8 && calls.length < 30, `${calls.length} calls in a minute`);
    fates = [];
    for (let second = 0; second < 60; second += 1) await clock.advance(1_000);
    assert.ok(there);
    ending.abort();
  });

  it('does not change another installation’s Mutation, and creates its own when that one is deleted', async () => {
    const one = keeper();
    const theirs = put(mutationRules(new Map([['alice', 'alice-sa']])), 'other-field');
    one.sync();
    await rest();
    wanted.set('alice', 'alice-sa');
    one.sync();
    await rest();
    assert.deepEqual([one.gives('alice-sa'), one.keptBy()], [false, 'other-field']);
    for (let second = 0; second < 60; second += 1) await clock.advance(1_000);
    assert.deepEqual([there, writes()], [theirs, []]);
    assert.ok(calls.length < 12, `${calls.length} looks in a minute`);
    put(undefined);
    for (let second = 0; second < 30; second += 1) await clock.advance(1_000);
    assert.deepEqual([one.gives('alice-sa'), one.keptBy(), drifts], [true, undefined, 0]);
    ending.abort();
  });

  it('invariant 1: writes nothing without the lease', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    holds = false;
    one.sync();
    await rest();
    await clock.advance(60_000);
    assert.deepEqual(writes(), []);
  });

  it('stops retrying when its signal aborts', async () => {
    const one = keeper();
    wanted.set('alice', 'alice-sa');
    fates = ['unavailable'];
    one.sync();
    await rest();
    ending.abort();
    await one.idle();
    await clock.advance(60_000);
    assert.deepEqual(writes(), ['create']);
  });
});
