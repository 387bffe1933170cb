/** Proves that runs that are shut out have no place in any proxy role, and that their room goes to others. */
import assert from 'node:assert/strict';
import { smallCluster } from '../support/placements.ts';

describe('placements of revoked runs', () => {
  const run = 'a'.repeat(24);

  it('end with the revocation, and come back with its end', () => {
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

  it('are not made by asking again', () => {
    const cluster = smallCluster();
    cluster.map({ t: ['p'] });
    cluster.revoked.add(run);
    cluster.start('a', { run });
    assert.deepEqual(cluster.members('p'), []);
    assert.deepEqual(cluster.refused('p'), []);
  });

  it('leave their room to the runs that wait', () => {
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
