import assert from 'node:assert/strict';
import { type SmallCluster, smallCluster } from '../support/placements.ts';

describe('placements: who is in stays in', () => {
  let cluster: SmallCluster;
  const together = { run: '646d27b817c28b5ea4b5b0c1', user: 'alice' };
  beforeEach(() => {
    cluster = smallCluster();
    cluster.map({ t: ['p'] });
  });

  it('an account that asks for its next run keeps its place in a full role', () => {
    cluster.capacity('p', 1);
    cluster.start('a', { user: 'alice', run: '1'.repeat(24) });
    cluster.accept('p');
    cluster.start('b');
    cluster.ask('a', { user: 'alice', run: '2'.repeat(24) });
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], ['b trust_policy_full']]);
  });

  it('an account that joins a run in a full role does not take the role from the run', () => {
    cluster.capacity('p', 1);
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('an account that joins a run in a role with an error does not take the role from the run', () => {
    cluster.start('a', together);
    cluster.accept('p');
    cluster.fail('p', 15000);
    cluster.start('b', together);
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('who asked last is evicted first among those not in yet', () => {
    for (const n of ['a', 'b', 'c']) cluster.start(n);
    cluster.capacity('p', 2);
    assert.deepEqual(cluster.members('p'), ['a', 'b']);
  });

  it('room that the eviction of a whole run leaves is given to who waits', () => {
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

  it('an error refuses those of a run who are not in, and leaves those who are', () => {
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    cluster.fail('p', 15000);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a'], ['b role_not_found']]);
  });

  it('who of a run was refused gets in when room comes', () => {
    cluster.capacity('p', 1);
    cluster.start('a', together);
    cluster.accept('p');
    cluster.start('b', together);
    cluster.capacity('p', 2);
    assert.deepEqual([cluster.members('p'), cluster.refused('p')], [['a', 'b'], []]);
  });

  it('invariant 5: a later run of the same user on the same account has to ask itself', () => {
    const [first, second] = ['1'.repeat(24), '2'.repeat(24)];
    cluster.start('a', { user: 'alice', run: first });
    cluster.podsOfRuns('a', 'alice', first, second);
    assert.deepEqual(cluster.members('p'), ['a']);
    cluster.podsOfRuns('a', 'alice', second);
    assert.deepEqual(cluster.members('p'), []);
    cluster.ask('a', { user: 'alice', run: second });
    assert.deepEqual(cluster.members('p'), ['a']);
  });

  it('a run that asked before keeps the account when the one that asked last ends', () => {
    const [first, second] = ['1'.repeat(24), '2'.repeat(24)];
    cluster.start('a', { user: 'alice', run: second });
    const request = cluster.requestOf('a');
    cluster.annotate('a', JSON.stringify({ ...request, also: [first] }));
    cluster.podsOfRuns('a', 'alice', first);
    assert.deepEqual(cluster.members('p'), ['a']);
  });
});
