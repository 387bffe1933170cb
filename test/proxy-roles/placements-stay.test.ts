/** Proves that a run that has a place in a proxy role keeps it. */
import assert from 'node:assert/strict';
import { type SmallCluster, smallCluster } from '../support/placements.ts';

describe('placement keeps existing members', () => {
  let cluster: SmallCluster;
  const together = { run: '646d27b817c28b5ea4b5b0c1', user: 'alice' };
  beforeEach(() => {
    cluster = smallCluster();
    cluster.map({ t: ['p'] });
  });

  it('a service account that asks for its next run stays a member of a full role', () => {
    cluster.capacity('p', 1);
    cluster.start('a', { user: 'alice', run: '1'.repeat(24) });
    cluster.accept('p');
    cluster.start('b');
    cluster.ask('a', { user: 'alice', run: '2'.repeat(24) });
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], ['b trust_policy_full']]);
  });

  it('a service account that joins a run in a full role does not evict the run', () => {
    cluster.capacity('p', 1);
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('a service account that joins a run in a role with an error does not evict the run', () => {
    cluster.start('a', together);
    cluster.accept('p');
    cluster.fail('p', 15000);
    cluster.start('b', together);
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('evicts the latest request first among members that IAM has not accepted', () => {
    for (const n of ['a', 'b', 'c']) cluster.start(n);
    cluster.capacity('p', 2);
    assert.deepEqual(cluster.members('p'), ['a', 'b']);
  });

  it('the capacity that an evicted run frees goes to a run that waits', () => {
    cluster.start('x');
    cluster.accept('p');
    cluster.start('a', together);
    cluster.start('b', together);
    cluster.accept('p');
    cluster.capacity('p', 3);
    cluster.start('c');
    cluster.capacity('p', 2);
    assert.deepEqual(cluster.members('p'), ['c', 'x']);
  });

  it('after an error, new service accounts of a run are refused and existing members stay', () => {
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    cluster.fail('p', 15000);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], ['b role_not_found']]);
  });

  it('a refused service account of a run becomes a member when capacity comes', () => {
    cluster.capacity('p', 1);
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    cluster.capacity('p', 2);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a', 'b'], []]);
  });

  it('invariant 5: a later run of the same user on the same service account has to send its own request', () => {
    const [first, second] = ['1'.repeat(24), '2'.repeat(24)];
    cluster.start('a', { user: 'alice', run: first });
    cluster.podsOfRuns('a', 'alice', first, second);
    assert.deepEqual(cluster.members('p'), ['a']);
    cluster.podsOfRuns('a', 'alice', second);
    assert.deepEqual(cluster.members('p'), []);
    cluster.ask('a', { user: 'alice', run: second });
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('a run that asked earlier keeps its membership when the run that asked last ends', () => {
    const [first, second] = ['1'.repeat(24), '2'.repeat(24)];
    cluster.start('a', { user: 'alice', run: second });
    const request = cluster.requestOf('a');
    cluster.annotate('a', JSON.stringify({ ...request, also: [first] }));
    cluster.podsOfRuns('a', 'alice', first);
    assert.deepEqual(cluster.members('p'), ['a']);
  });
});
