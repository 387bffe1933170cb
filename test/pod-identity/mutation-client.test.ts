/** Proves the keeper of the Mutation against an API server that loses answers and other people who edit it. */
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
  /** What the watch shows; it follows unless told otherwise. */
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

  it('makes it, changes it, takes it away, and writes nothing that is so already', async () => {
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

  it('its own write is not an external change, also when the answer was lost', async () => {
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

  it('what it took away is gone, however long the watch shows it', async () => {
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
    // Somebody makes one of that name: that is a newer one.
    isBehind = false;
    put(mutationRules(new Map([['mallory', 'alice-sa']])));
    assert.ok(one.gives('alice-sa'));
    one.sync();
    await rest();
    assert.equal(there, undefined);
  });

  it('an external change is reported once and repaired; where they go on, the repair waits without a loop', async () => {
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

  it('an administrator’s change does not wait for it', async () => {
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

  it('what cannot be written is tried ever later, and nobody is woken for it', async () => {
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

  it('one that moved meanwhile is read again', async () => {
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

  it('a namespace that is not there is not asked for without end', async () => {
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

  it('another installation’s is left alone, and had when that one gave it up', async () => {
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

  it('ends when it is told to', async () => {
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
