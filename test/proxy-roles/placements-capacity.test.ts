/** Proves where placement puts runs when proxy roles are full, shrink, grow, or cannot be written. */
import assert from 'node:assert/strict';
import { type SmallCluster, smallCluster } from '../support/placements.ts';

describe('placement: capacity and errors', () => {
  let cluster: SmallCluster;
  const where = () => [cluster.members('p'), cluster.members('q')];

  beforeEach(() => {
    cluster = smallCluster();
    cluster.map({ t: ['p', 'q'] });
  });

  it('fills the first proxy role, then the next, then refuses runs', () => {
    cluster.capacity('p', 2);
    cluster.capacity('q', 1);
    for (const name of ['a', 'b', 'c', 'd']) cluster.start(name);
    assert.deepEqual(where(), [['a', 'b'], ['c']]);
    assert.deepEqual(cluster.refused('p'), ['d trust_policy_full']);
  });

  it('places refused runs when capacity comes, the longest waiting first', () => {
    cluster.capacity('p', 1);
    cluster.capacity('q', 0);
    for (const name of ['a', 'd', 'b', 'c']) cluster.start(name);
    assert.deepEqual(
      cluster.refused('p'),
      ['d', 'b', 'c'].map((name) => `${name} trust_policy_full`),
    );
    cluster.pods('a');
    assert.deepEqual(where(), [['d'], []]);
    cluster.capacity('q', 1);
    assert.deepEqual(where(), [['d'], ['b']]);
    assert.deepEqual(cluster.refused('p'), ['c trust_policy_full']);
  });

  it('places a refused run that asks again after the mapping names another proxy role', () => {
    cluster.map({ t: ['p'] });
    cluster.capacity('p', 0);
    cluster.start('a');
    cluster.map({ t: ['p', 'q'] });
    assert.deepEqual(where(), [[], []], 'the request names the proxy roles of the earlier mapping');
    cluster.ask('a');
    assert.deepEqual(where(), [[], ['a']]);
  });

  it('invariant 2: a role over its capacity moves its latest members to another proxy role', () => {
    for (const name of ['c', 'a', 'b']) {
      cluster.start(name);
      cluster.accept('p');
    }
    cluster.capacity('p', 1);
    assert.deepEqual(where(), [['c'], ['a', 'b']]);
    assert.deepEqual([...cluster.role('p').observed.members.keys()], ['c']);
  });

  it('invariant 2: a role over its capacity refuses its latest member when no other proxy role has capacity', () => {
    cluster.capacity('q', 0);
    for (const name of ['c', 'a', 'b']) {
      cluster.start(name);
      cluster.accept('p');
    }
    cluster.capacity('p', 2);
    assert.deepEqual(where(), [['a', 'c'], []]);
    assert.deepEqual(cluster.refused('p'), ['b trust_policy_full']);
    cluster.capacity('p', 3);
    assert.deepEqual(where(), [['a', 'b', 'c'], []]);
  });

  it('a shrinking role evicts members that IAM has not accepted before those it has', () => {
    cluster.start('z');
    cluster.accept('p');
    cluster.start('a');
    cluster.capacity('p', 1);
    assert.deepEqual(where(), [['z'], ['a']]);
  });

  it('a run with several service accounts is evicted as a whole', () => {
    const together = { run: '646d27b817c28b5ea4b5b0c1', user: 'alice' };
    cluster.start('x');
    cluster.start('a', together);
    cluster.start('b', together);
    cluster.accept('p');
    cluster.capacity('p', 2);
    assert.deepEqual(where(), [['x'], ['a', 'b']]);
  });

  it('no run moves back when the first proxy role has capacity again', () => {
    cluster.capacity('p', 1);
    for (const name of ['a', 'b']) cluster.start(name);
    cluster.accept('p', 'q');
    cluster.capacity('p', 5);
    cluster.placements.all();
    cluster.pods('a');
    cluster.ask('b');
    assert.deepEqual(where(), [[], ['b']]);
  });

  it('after an error, runs that IAM has not accepted go to another proxy role and the others stay', () => {
    cluster.start('a');
    cluster.accept('p');
    cluster.start('b');
    cluster.fail('p', 15_000);
    assert.deepEqual(where(), [['a'], ['b']]);
    cluster.start('c');
    assert.deepEqual(where(), [['a'], ['b', 'c']]);
  });

  it('an error of the only proxy role is the reason of the refusal, and the run is placed when the error ends', () => {
    cluster.map({ t: ['p'] });
    cluster.start('a');
    cluster.fail('p', 15_000);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [[], ['a role_not_found']]);
    cluster.elapsed = 15_000;
    cluster.placements.reconsider(cluster.role('p'));
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], []]);
  });

  it('a run that an error moved to another proxy role stays there when the error ends', () => {
    cluster.start('a');
    cluster.fail('p', 15_000);
    cluster.accept('p', 'q');
    cluster.elapsed = 15_000;
    cluster.placements.reconsider(cluster.role('p'));
    assert.deepEqual(where(), [[], ['a']]);
  });

  it('does not overfill a role when one run requests it for several target roles', () => {
    const together = { run: '646d27b817c28b5ea4b5b0c1', user: 'alice' };
    cluster.map({ t: ['p'], u: ['p'] });
    cluster.capacity('p', 0);
    cluster.start('a', { ...together, pools: { t: ['p'] } });
    cluster.start('b', { ...together, pools: { u: ['p'] } });
    cluster.capacity('p', 1);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], ['b trust_policy_full']]);
  });

  it('a request refused for one target role gets the others', () => {
    cluster.map({ t: ['p'], u: ['q'] });
    cluster.capacity('p', 0);
    cluster.start('a');
    assert.deepEqual(where(), [[], ['a']]);
    assert.deepEqual(cluster.refused('p'), ['a trust_policy_full']);
  });
});
