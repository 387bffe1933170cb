/** Proves GET /access over the wire: an administrator, and no other user, learns why a run or user has no role. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('GET /access', () => {
  let world: World;
  let replica: Replica;
  let other: Replica;
  let next = 8600;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    for (const name of ['alice', 'bob', '__proto__']) world.domino.addUser({ name, orgs: ['acme', 'unmapped'] });
    world.domino.addUser({ name: 'carol', orgs: ['unmapped'] });
    [replica, other] = await Promise.all([world.startReplica(), world.startReplica()]);
    await world.map(replica, 'acme', world.addRolePair('listed'));
    await until(async () => (await ask('user=admin')).status === 200);
  });
  after(() => world.stop());

  const ask = (query: string, as = 'admin', from = replica) => from.call('GET', `/access?${query}`, { as });
  const grant = (as: string, run: string, at = replica) =>
    at.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run } });
  function start(user: string, options = {}): string {
    const run = runId(next++);
    world.startRun(run, user, options);
    return run;
  }

  it('shows for a run what /my_access shows to its user', async () => {
    const run = start('alice');
    await until(async () => (await ask(`run_id=${run}`)).status === 200);
    const before = await ask(`run_id=run-${run}`);
    assert.equal(before.body.user, 'alice');
    assert.deepEqual(before.body.membership, { known_from: 'nothing' });
    assert.deepEqual(before.body.access, []);
    await grant('alice', run);
    await until(async () => (await ask(`run_id=${run}`)).body.access[0]?.code === 'granted');
    const { body } = await ask(`run_id=${run}`);
    const own = (await replica.call('GET', `/my_access?run_id=${run}`, { as: 'alice' })).body;
    assert.deepEqual(body.access, own.access);
    assert.deepEqual(body.run, own.run);
    assert.deepEqual(body.domino_orgs, ['acme', 'unmapped']);
    assert.equal(body.membership.known_from, 'domino');
    assert.equal(body.user_id, world.domino.user('alice').id);
  });

  it('lists the live runs of a user, given by name or id, the newest first', async () => {
    const runs = [start('bob'), start('bob')];
    await until(async () => (await ask('user=bob')).body.runs?.length === 2);
    for (const user of ['bob', world.domino.user('bob').id]) {
      const { body } = await ask(`user=${user}`);
      assert.deepEqual(
        body.runs.map(({ run_id }: { run_id: string }) => run_id),
        runs.toReversed(),
      );
      assert.equal(body.more_runs, 0);
      assert.equal(body.run, undefined);
    }
  });

  it('takes a user’s organizations on another replica from the activity record', async () => {
    const run = start('carol');
    await until(async () => (await ask(`run_id=${run}`)).status === 200);
    await grant('carol', run, replica);
    await until(async () => (await ask('user=carol', 'admin', other)).body.membership?.known_from === 'activity');
    const { body } = await ask('user=carol', 'admin', other);
    assert.deepEqual(body.domino_orgs, ['unmapped']);
    assert.ok(body.membership.at);
    assert.deepEqual(body.access, []);
  });

  it('shows who revoked a run and why, also for a run that shares its service account', async () => {
    const [run, sharing] = [start('alice', { account: 'alice-sa' }), start('alice', { account: 'alice-sa' })];
    await until(
      async () => (await ask(`run_id=${sharing}`)).status === 200 && (await ask(`run_id=${run}`)).status === 200,
    );
    await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run, reason: 'a lost laptop' } });
    for (const asked of [run, sharing]) {
      await until(async () => (await ask(`run_id=${asked}`)).body.revocation !== undefined);
      const { revoked_at, ...revocation } = (await ask(`run_id=${asked}`)).body.revocation;
      assert.ok(revoked_at);
      assert.deepEqual(revocation, { run_id: run, revoked_by: 'admin', reason: 'a lost laptop' });
    }
  });

  it('distinguishes two users of the same name', async () => {
    const { id } = world.domino.user('bob');
    world.kubernetes.put('pods', {
      kind: 'Pod',
      apiVersion: 'v1',
      metadata: {
        name: 'run-other-bob',
        namespace: 'domino-compute',
        labels: {
          'dominodatalab.com/execution-id': runId(next++),
          'dominodatalab.com/starting-user-id': 'ffffffffffffffffffffffff',
          'dominodatalab.com/starting-user-username': 'bob',
        },
      },
      spec: { containers: [], serviceAccountName: 'other-bob' },
      status: { phase: 'Running' },
    });
    await until(async () => (await ask('user=ffffffffffffffffffffffff')).status === 200);
    await replica.call('GET', '/my_access', { as: 'bob' });
    const { body } = await ask('user=bob');
    assert.equal(body.user_id, id);
    assert.deepEqual(body.other_user_ids, ['ffffffffffffffffffffffff']);
    const stranger = (await ask('user=ffffffffffffffffffffffff')).body;
    assert.equal(stranger.runs.length, 1);
    assert.deepEqual(stranger.membership, { known_from: 'nothing' });
  });

  it('refuses users who are not administrators, for any query', async () => {
    const run = start('bob');
    for (const query of [`run_id=${run}`, 'user=bob', 'user=alice', 'user=nobody', 'user=admin', '']) {
      const refused = await ask(query, 'alice');
      assert.equal(refused.status, 403, query);
      assert.doesNotMatch(refused.text, /bob|acme/);
    }
    assert.equal((await replica.call('GET', '/access?user=bob')).status, 401);
  });

  it('refuses invalid runs and users, both at once, and neither', async () => {
    const run = runId(1);
    const wrong = ['', `run_id=${run}&user=alice`, 'run_id=__proto__', 'run_id=', `run_id=${run}%0a`, 'run_id=RUN-1'];
    const more = [`run_id=${run}&run_id=${run}`, 'user=', `user=${'a'.repeat(254)}`, 'user=a%00b', 'user[x]=1', 'x=1'];
    for (const query of [...wrong, ...more]) {
      const response = await ask(query);
      assert.equal(response.status, 400, query);
      assert.equal(response.body.code, 'invalid_request');
    }
  });

  it('answers 404 for unknown users and runs, also for names of JavaScript properties', async () => {
    for (const user of ['constructor', 'toString', 'hasOwnProperty', '__proto__', 'nobody', '%7B%7D', '"', '.*']) {
      const response = await ask(`user=${encodeURIComponent(user)}`);
      assert.equal(response.status, 404, user);
      assert.equal(response.body.code, 'user_not_found');
    }
    assert.equal((await ask(`run_id=${runId(77)}`)).body.code, 'run_not_found');
  });

  it('shows a user called __proto__ like any other', async () => {
    const run = start('__proto__');
    await until(async () => (await ask(`run_id=${run}`)).status === 200);
    await grant('__proto__', run);
    const { body } = await ask('user=__proto__');
    assert.equal(body.user, '__proto__');
    assert.equal(body.runs.length, 1);
  });
});
