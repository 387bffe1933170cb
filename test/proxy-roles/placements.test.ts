/** Proves which service account is placed in which proxy role as requests, pods, mappings and capacity change. */
import assert from 'node:assert/strict';
import { proxyArn, type SmallCluster, smallCluster, targetArn } from '../support/placements.ts';

describe('placements', () => {
  let cluster: SmallCluster;

  beforeEach(() => {
    cluster = smallCluster();
    cluster.map({ t: ['p', 'q'] });
  });

  describe('which requests count', () => {
    it('places a service account with a request and a live pod, for that request', () => {
      const want = cluster.start('a');
      assert.deepEqual([...cluster.role('p').desired.members], [['a', want]]);
      assert.deepEqual(cluster.changes, ['add p']);
    });

    it('a request that arrives before its pod waits for the pod', () => {
      cluster.ask('a');
      assert.deepEqual(cluster.members('p'), []);
      cluster.pods('a', 'user-a');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it("invariant 5: a service account shared by two users' pods is a member of no proxy role", () => {
      cluster.start('a', { user: 'alice' });
      cluster.pods('a', 'alice', 'bob');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], []]);
      cluster.pods('a', 'alice');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it('invariant 5: a request counts only when the pod belongs to the user who sent it', () => {
      cluster.pods('a', 'alice');
      cluster.ask('a', { user: 'bob' });
      assert.deepEqual(cluster.members('p'), []);
      cluster.pods('a', undefined);
      cluster.pods('a', 'bob');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it('invariant 5: a name that no service account can have is never a member', () => {
      for (const name of ['*', 'a*', 'A', 'run-?']) cluster.start(name);
      assert.deepEqual(cluster.members('p'), []);
    });

    it('invariant 2: a request for a pair that no mapping names is void, and no refusal is published', () => {
      cluster.start('a', { pools: { t: ['r'] } });
      cluster.start('b', { pools: { u: ['p'] } });
      cluster.start('c', { org: 'other' });
      for (const name of ['p', 'q', 'r']) assert.deepEqual([cluster.members(name), cluster.refused(name)], [[], []]);
    });

    it('of the requested proxy roles, only those that a mapping allows are used', () => {
      cluster.start('a', { pools: { t: ['r', 'q'] } });
      assert.deepEqual([cluster.members('p'), cluster.members('q'), cluster.members('r')], [[], ['a'], []]);
    });

    it('an unmanaged proxy role gets no members', () => {
      cluster.map({ t: ['p', 'q'] }, ['p']);
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']]);
    });

    it('an annotation that is not a role request is ignored', () => {
      cluster.start('a');
      cluster.annotate('a', '{"cleared":true}');
      assert.deepEqual(cluster.members('p'), []);
      cluster.annotate('a', 'x');
      cluster.annotate('a', undefined);
      assert.deepEqual(cluster.members('p'), []);
    });
  });

  describe('additions, removals and moves', () => {
    it('removes a service account when its last live pod, its request or the account itself is gone', () => {
      for (const name of ['a', 'b', 'c']) cluster.start(name);
      cluster.pods('a');
      cluster.annotate('b', undefined);
      cluster.remove('c');
      assert.deepEqual(cluster.members('p'), []);
      assert.deepEqual(cluster.changes.slice(3), ['remove p', 'remove p', 'remove p']);
    });

    it('a new request replaces the previous one entirely', () => {
      cluster.map({ t: ['p'], u: ['q'] });
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], ['a']]);
      const want = cluster.ask('a', { pools: { u: ['q'] } });
      assert.deepEqual(cluster.members('p'), []);
      assert.deepEqual([...cluster.role('q').desired.members], [['a', want]]);
    });

    it('a service account used by a second user is removed until that user asks', () => {
      cluster.start('a', { user: 'alice' });
      cluster.accept('p');
      cluster.pods('a', 'bob');
      assert.deepEqual(cluster.members('p'), [], "alice's request does not count for bob's pod");
      const want = cluster.ask('a', { user: 'bob' });
      assert.deepEqual([...cluster.role('p').desired.members], [['a', want]]);
    });

    it('a member moves when the mapping names another proxy role, and is removed when no mapping is left', () => {
      cluster.start('a');
      cluster.accept('p');
      cluster.map({ t: ['q'] });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']]);
      cluster.accept('p', 'q');
      cluster.map({});
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], []]);
      cluster.map({ t: ['p', 'q'] });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']], 'IAM still has it in q');
    });

    it('no member moves when only the order of the mapping changes', () => {
      cluster.start('a');
      cluster.accept('p');
      cluster.map({ t: ['q', 'p'] });
      cluster.ask('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], []]);
    });

    it('recomputing the same placement notifies no listener', () => {
      cluster.start('a');
      cluster.changes.length = 0;
      cluster.placements.account('a');
      cluster.placements.all();
      cluster.placements.reconsider(cluster.role('p'));
      assert.deepEqual(cluster.changes, []);
    });

    it('a new leader keeps members in the proxy role that IAM has them in', () => {
      for (const name of ['c', 'b', 'a']) cluster.start(name);
      const role = cluster.role('q');
      const next = smallCluster();
      next.map({ t: ['p', 'q'] });
      for (const name of ['c', 'b', 'a']) next.pods(name, `user-${name}`);
      for (const name of ['b', 'a']) {
        next.role('q').observed.members.set(name, { want: 'w', since: '2026-11-21T00:00:00.000Z' });
      }
      for (const name of ['c', 'b', 'a']) next.ask(name);
      next.placements.all();
      assert.deepEqual([next.members('p'), next.members('q')], [['c'], ['a', 'b']]);
      assert.equal(role.desired.members.size, 0);
    });
  });

  describe('a run with several service accounts', () => {
    const run = '646d27b817c28b5ea4b5b0c1';
    const together = { run, user: 'alice' };

    it('has all of them in one proxy role, since its config file names one', () => {
      cluster.capacity('p', 2);
      cluster.start('x');
      cluster.start('a', together);
      cluster.start('b', together);
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['x'], ['a', 'b']]);
    });

    it('is placed apart from a run with the same id of another user', () => {
      cluster.capacity('p', 1);
      cluster.start('a', together);
      cluster.start('b', { run, user: 'mallory' });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], ['b']]);
    });

    it('follows its latest request for a target role', () => {
      cluster.start('a', { ...together, pools: { t: ['p'] } });
      cluster.start('b', { ...together, pools: { t: ['q'] } });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a', 'b']]);
    });

    it('loses its service accounts one by one', () => {
      cluster.start('a', together);
      cluster.start('b', together);
      cluster.pods('a');
      assert.deepEqual(cluster.members('p'), ['b']);
      cluster.pods('b');
      assert.deepEqual(cluster.members('p'), []);
    });

    it('uses the capacity of one member for two target roles behind one proxy role', () => {
      cluster.map({ t: ['p'], u: ['p'] });
      cluster.capacity('p', 1);
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], []]);
      cluster.ask('a', { pools: { u: ['p'] } });
      assert.deepEqual(cluster.members('p'), ['a']);
    });
  });

  describe('the record of a proxy role', () => {
    it('has the request, the target role and the reason of a refusal, at the first proxy role of the pool', () => {
      cluster.capacity('p', 0);
      cluster.capacity('q', 0);
      const want = cluster.start('a');
      assert.deepEqual(cluster.role('p').conditions.refused, [
        {
          account: 'a',
          want,
          target: targetArn('t'),
          code: 'trust_policy_full',
          detail: 'the trust policies of proxy roles p, q have no room for another run',
        },
      ]);
      assert.deepEqual(cluster.role('q').conditions.refused, []);
      cluster.pods('a');
      assert.deepEqual(cluster.role('p').conditions.refused, []);
      assert.deepEqual(cluster.changes, ['publish p', 'publish p']);
    });

    it('is dropped by forget', () => {
      cluster.start('a');
      cluster.map({});
      cluster.placements.forget(proxyArn('p'));
      assert.ok(![...cluster.placements.roles()].some(({ arn }) => arn === proxyArn('p')));
      assert.equal(cluster.role('p').observed.capacity, Number.POSITIVE_INFINITY);
    });
  });
});
