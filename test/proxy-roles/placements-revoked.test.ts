/** Proves that revoked runs are members of no proxy role, and that their capacity goes to other runs. */
import assert from 'node:assert/strict';
import { smallCluster } from '../support/placements.ts';

describe('placements of revoked runs', () => {
  const run = 'a'.repeat(24);

  it('end when the run is revoked, and return when it is allowed again', () => {
    const cluster = smallCluster();
    cluster.map({ t: ['p'] });
    cluster.start('a', { run });
    cluster.start('b');
    cluster.accept('p');
    cluster.revoked.add(run);
    cluster.placements.all();
    assert.deepEqual(cluster.members('p'), ['b']);
    cluster.revoked.clear();
    cluster.placements.all();
    assert.deepEqual(cluster.members('p'), ['a', 'b']);
  });

  it('are not made for a request after the revocation', () => {
    const cluster = smallCluster();
    cluster.map({ t: ['p'] });
    cluster.revoked.add(run);
    cluster.start('a', { run });
    assert.deepEqual(cluster.members('p'), []);
    assert.deepEqual(cluster.refused('p'), []);
  });

  it('free their capacity for runs that wait', () => {
    const cluster = smallCluster();
    cluster.map({ t: ['p'] });
    cluster.capacity('p', 1);
    cluster.start('a', { run });
    cluster.start('b');
    assert.deepEqual(cluster.members('p'), ['a']);
    cluster.revoked.add(run);
    cluster.placements.all();
    assert.deepEqual(cluster.members('p'), ['b']);
    assert.deepEqual(cluster.refused('p'), []);
  });
});
