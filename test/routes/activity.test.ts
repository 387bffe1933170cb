/** Proves GET /activity over the wire: administrators see grants, refusals and changes of all replicas, and no credential. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Entry {
  id: string;
  at: string;
  kind: string;
  decision: string;
  user?: string;
  of_user?: string;
  run_id?: string;
  domino_orgs?: string[];
  code?: string;
  reason?: string;
}

describe('GET /activity', () => {
  let world: World;
  let replicas: Replica[];
  let run: string;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    for (const name of ['alice', 'bob']) world.domino.addUser({ name, orgs: ['acme'] });
    replicas = await Promise.all([1, 2].map(() => world.startReplica()));
    await world.map(first(), 'acme', world.addRolePair('listed'));
    run = runId(9700);
    world.startRun(run, 'alice');
    await until(async () => (await grant('alice', run, first())).status === 200);
    assert.equal((await grant('bob', run, second())).status, 404);
    await first().call('POST', '/revoke_run', { as: 'admin', body: { run_id: run, reason: 'a lost laptop' } });
  });
  after(() => world.stop());

  const first = () => replicas[0] as Replica;
  const second = () => replicas[1] as Replica;
  const grant = (as: string, run_id: string, at: Replica) =>
    at.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id } });
  const ask = (query = '', as = 'admin', at = first()) => at.call('GET', `/activity${query}`, { as });
  const entries = async (query = '', at = first()): Promise<Entry[]> => (await ask(query, 'admin', at)).body.activity;
  const all = 5;

  it('shows the entries of all replicas on each replica, the newest first', async () => {
    for (const replica of replicas) {
      await until(async () => (await entries('', replica)).length === all);
      const found = await entries('', replica);
      assert.deepEqual(
        found.map(({ kind, decision }) => `${kind} ${decision}`),
        ['revocation revoked', 'grant refused', 'grant granted', 'organization recorded', 'mapping changed'],
      );
      assert.deepEqual(
        found.map(({ at }) => at),
        found
          .map(({ at }) => at)
          .sort()
          .reverse(),
      );
      const [revoked, refused, granted] = found;
      assert.deepEqual([revoked?.user, revoked?.of_user, revoked?.reason], ['admin', 'alice', 'a lost laptop']);
      assert.deepEqual([refused?.user, refused?.code], ['bob', 'run_not_found']);
      assert.deepEqual(granted?.domino_orgs, ['acme']);
    }
  });

  it('filters by user, run, role, kind and time', async () => {
    const kinds = async (query: string) => (await entries(query)).map(({ kind, decision }) => `${kind} ${decision}`);
    const revoked = 'revocation revoked';
    assert.deepEqual(await kinds('?user=alice'), [
      ...[revoked, 'grant refused', 'grant granted', 'organization recorded'],
    ]);
    assert.deepEqual(await kinds('?user=bob'), ['grant refused']);
    assert.deepEqual(await kinds(`?run_id=run-${run}&user=admin`), [revoked]);
    const role = encodeURIComponent(`arn:aws:iam::${clusterAccount}:role/listed`);
    assert.deepEqual(await kinds(`?role_arn=${role}`), [revoked, 'mapping changed']);
    const [newest] = await entries();
    assert.deepEqual(await kinds(`?since=${newest?.at}`), [revoked]);
    assert.deepEqual(await kinds('?kind=revocation'), [revoked]);
    assert.deepEqual(await kinds('?kind=grant&user=bob'), ['grant refused']);
    assert.deepEqual(await kinds('?kind=nothing'), []);
    assert.deepEqual(
      (await ask('?kind=mapping&limit=1')).body.activity.length,
      1,
      'an entry of this kind is found however old it is',
    );
    assert.deepEqual(await kinds(`?since=2100-01-01T00:00:00Z`), []);
    for (const name of ['__proto__', 'constructor', 'nobody']) assert.deepEqual(await kinds(`?user=${name}`), []);
  });

  it('has pages that together hold every entry', async () => {
    const seen: string[] = [];
    let next: string | undefined;
    do {
      const { body } = await ask(`?limit=1${next === undefined ? '' : `&continue=${next}`}`);
      assert.ok(body.activity.length <= 1);
      seen.push(...(body.activity as Entry[]).map(({ id }) => id));
      next = body.next;
    } while (next !== undefined);
    assert.deepEqual(
      seen,
      (await entries()).map(({ id }) => id),
    );
  });

  it('refuses invalid filters and page sizes, and accepts a made-up continue token', async () => {
    for (const query of ['limit=0', 'limit=501', 'limit=1e9', 'limit=-1', 'limit=x', 'limit=1.5', 'limit=1&limit=2']) {
      assert.equal((await ask(`?${query}`)).status, 400, query);
    }
    for (const query of [
      'since=yesterday',
      'since=',
      'run_id=__proto__',
      'role_arn=x',
      'continue=%00',
      'user=',
      'kind=',
      'kind=Grant',
      'x=1',
    ]) {
      assert.equal((await ask(`?${query}`)).status, 400, query);
    }
    assert.equal((await ask(`?continue=${'A'.repeat(1025)}`)).status, 400);
    for (const place of ['AAAA', '_', Buffer.from('__proto__').toString('base64url')]) {
      assert.equal((await ask(`?continue=${place}`)).status, 200, place);
    }
  });

  it('refuses users who are not administrators, even for their own entries', async () => {
    for (const query of ['', '?user=alice', `?run_id=${run}`]) {
      const refused = await ask(query, 'alice');
      assert.equal(refused.status, 403);
      assert.doesNotMatch(refused.text, /acme|bob/);
    }
    assert.equal((await first().call('GET', '/activity')).status, 401);
  });

  it('has one entry for repeated grants of the same roles to a run, and another when its roles change', async () => {
    const other = runId(9701);
    world.startRun(other, 'alice');
    for (let time = 0; time < 3; time += 1)
      await until(async () => (await grant('alice', other, second())).status === 200);
    const granted = async () =>
      (await entries(`?run_id=${other}`, second())).filter(({ decision }) => decision === 'granted');
    await until(async () => (await granted()).length > 0);
    assert.equal((await granted()).length, 1);
    const pair = (name: string) => ({
      target: `arn:aws:iam::${assetAccount}:role/${name}`,
      proxies: [`arn:aws:iam::${clusterAccount}:role/${name}`],
    });
    world.addRolePair('added');
    await world.map(second(), 'acme', pair('listed'), pair('added'));
    assert.match((await grant('alice', other, second())).text, /^\[profile added\]$/m);
    await until(async () => (await granted()).length > 1);
    assert.equal((await granted()).length, 2);
  });

  it('has no credential in the answer or in Kubernetes', async () => {
    const { text } = await ask();
    await until(() => stored().length > 0);
    for (const where of [text, stored()]) {
      assert.doesNotMatch(where, /eyJ|Bearer|authorization/i);
    }
  });

  it('outlives the replicas that wrote it', async () => {
    const before = (await entries()).map(({ id }) => id);
    await Promise.all(replicas.map((replica) => replica.stop()));
    replicas = [await world.startReplica()];
    assert.deepEqual(
      (await entries()).map(({ id }) => id).filter((id) => before.includes(id)),
      before,
    );
  });

  const stored = () =>
    JSON.stringify(
      world.kubernetes
        .list<{ metadata: { name: string } }>('configmaps', 'domino-field')
        .filter(({ metadata }) => metadata.name.startsWith('irsa-activity-')),
    );
});
