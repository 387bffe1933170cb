/** Proves who is put into which proxy role as wants, pods, mappings, room and errors come and go. */
import assert from 'node:assert/strict';
import { proxyArn, type SmallCluster, smallCluster, targetArn } from '../support/placements.ts';

describe('placements', () => {
  let cluster: SmallCluster;

  beforeEach(() => {
    cluster = smallCluster();
    cluster.map({ t: ['p', 'q'] });
  });

  describe('whose want counts', () => {
    it('puts an account with a request and a live pod in, for that request', () => {
      const want = cluster.start('a');
      assert.deepEqual([...cluster.role('p').desired.members], [['a', want]]);
      assert.deepEqual(cluster.changes, ['add p']);
    });

    it('a request before its pod waits for the pod', () => {
      cluster.ask('a');
      assert.deepEqual(cluster.members('p'), []);
      cluster.pods('a', 'user-a');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it('invariant 5: an account whose pods two users share is in nowhere', () => {
      cluster.start('a', { user: 'alice' });
      cluster.pods('a', 'alice', 'bob');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], []]);
      cluster.pods('a', 'alice');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it("invariant 5: a request of another user than the pods' counts for nothing", () => {
      cluster.pods('a', 'alice');
      cluster.ask('a', { user: 'bob' });
      assert.deepEqual(cluster.members('p'), []);
      cluster.pods('a', undefined);
      cluster.pods('a', 'bob');
      assert.deepEqual(cluster.members('p'), ['a']);
    });

    it('invariant 5: a name that is no service account is never put in', () => {
      for (const name of ['*', 'a*', 'A', 'run-?']) cluster.start(name);
      assert.deepEqual(cluster.members('p'), []);
    });

    it('invariant 2: a request for a pair that no mapping names is void, without a refusal to publish', () => {
      cluster.start('a', { pools: { t: ['r'] } });
      cluster.start('b', { pools: { u: ['p'] } });
      cluster.start('c', { org: 'other' });
      for (const name of ['p', 'q', 'r']) assert.deepEqual([cluster.members(name), cluster.refused(name)], [[], []]);
    });

    it('of the proxies wanted only those that a mapping allows are used', () => {
      cluster.start('a', { pools: { t: ['r', 'q'] } });
      assert.deepEqual([cluster.members('p'), cluster.members('q'), cluster.members('r')], [[], ['a'], []]);
    });

    it('an unmanaged proxy role is never written', () => {
      cluster.map({ t: ['p', 'q'] }, ['p']);
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']]);
    });

    it('an annotation that is no want counts for nothing', () => {
      cluster.start('a');
      cluster.annotate('a', '{"cleared":true}');
      assert.deepEqual(cluster.members('p'), []);
      cluster.annotate('a', 'x');
      cluster.annotate('a', undefined);
      assert.deepEqual(cluster.members('p'), []);
    });
  });

  describe('comings and goings', () => {
    it('removes an account with its last live pod, its request, or itself', () => {
      for (const name of ['a', 'b', 'c']) cluster.start(name);
      cluster.pods('a');
      cluster.annotate('b', undefined);
      cluster.remove('c');
      assert.deepEqual(cluster.members('p'), []);
      assert.deepEqual(cluster.changes.slice(3), ['remove p', 'remove p', 'remove p']);
    });

    it('a new want replaces the one before whole', () => {
      cluster.map({ t: ['p'], u: ['q'] });
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], ['a']]);
      const want = cluster.ask('a', { pools: { u: ['q'] } });
      assert.deepEqual(cluster.members('p'), []);
      assert.deepEqual([...cluster.role('q').desired.members], [['a', want]]);
    });

    it('an account that two users use one after the other goes from one to the other', () => {
      cluster.start('a', { user: 'alice' });
      cluster.accept('p');
      cluster.pods('a', 'bob');
      assert.deepEqual(cluster.members('p'), [], "alice's request does not count for bob");
      const want = cluster.ask('a', { user: 'bob' });
      assert.deepEqual([...cluster.role('p').desired.members], [['a', want]]);
    });

    it('moves with the mappings, and leaves with them', () => {
      cluster.start('a');
      cluster.accept('p');
      cluster.map({ t: ['q'] });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']]);
      cluster.accept('p', 'q');
      cluster.map({});
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], []]);
      cluster.map({ t: ['p', 'q'] });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a']], 'IAM still has it there');
    });

    it('nobody is moved when the mapping is only put in another order', () => {
      cluster.start('a');
      cluster.accept('p');
      cluster.map({ t: ['q', 'p'] });
      cluster.ask('a');
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], []]);
    });

    it('the same again tells nobody', () => {
      cluster.start('a');
      cluster.changes.length = 0;
      cluster.placements.account('a');
      cluster.placements.all();
      cluster.placements.reconsider(cluster.role('p'));
      assert.deepEqual(cluster.changes, []);
    });

    it('a leader that takes over leaves those in who are in', () => {
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

  describe('a run with several accounts', () => {
    const run = '646d27b817c28b5ea4b5b0c1';
    const together = { run, user: 'alice' };

    it('has them in one proxy role, since one config file names one', () => {
      cluster.capacity('p', 2);
      cluster.start('x');
      cluster.start('a', together);
      cluster.start('b', together);
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['x'], ['a', 'b']]);
    });

    it('is another run for another user', () => {
      cluster.capacity('p', 1);
      cluster.start('a', together);
      cluster.start('b', { run, user: 'mallory' });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [['a'], ['b']]);
    });

    it('goes by its latest want for a target', () => {
      cluster.start('a', { ...together, pools: { t: ['p'] } });
      cluster.start('b', { ...together, pools: { t: ['q'] } });
      assert.deepEqual([cluster.members('p'), cluster.members('q')], [[], ['a', 'b']]);
    });

    it('leaves account by account', () => {
      cluster.start('a', together);
      cluster.start('b', together);
      cluster.pods('a');
      assert.deepEqual(cluster.members('p'), ['b']);
      cluster.pods('b');
      assert.deepEqual(cluster.members('p'), []);
    });

    it('uses one place in a proxy role for two targets behind it', () => {
      cluster.map({ t: ['p'], u: ['p'] });
      cluster.capacity('p', 1);
      cluster.start('a');
      assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], []]);
      cluster.ask('a', { pools: { u: ['p'] } });
      assert.deepEqual(cluster.members('p'), ['a']);
    });
  });

  describe('what goes with a role', () => {
    it('names the request, the target and the reason in a refusal, at the first of the proxies', () => {
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

    it('is forgotten when told', () => {
      cluster.start('a');
      cluster.map({});
      cluster.placements.forget(proxyArn('p'));
      assert.ok(![...cluster.placements.roles()].some(({ arn }) => arn === proxyArn('p')));
      assert.equal(cluster.role('p').observed.capacity, Number.POSITIVE_INFINITY);
    });
  });
});
