/** Proves GET /trust_status over the wire: members, free capacity, and a comparison with IAM on demand. */
import assert from 'node:assert/strict';
import { statusName, trustStatusForm } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('GET /trust_status', () => {
  let world: World;
  let replica: Replica;
  let next = 7000;
  const arn = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    world.domino.addUser({ name: 'alice', orgs: ['acme', 'pooled'] });
    replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('listed'));
    await world.map(replica, 'pooled', world.addRolePair('pool', ['pool-1', 'pool-2']));
    await until(async () => (await status()).proxy_roles.every(({ published }: { published: boolean }) => published));
  });
  after(() => world.stop());

  const ask = (query = '', as = 'admin') => replica.call('GET', `/trust_status${query}`, { as });
  const status = async () => (await ask()).body;
  const one = (name: string) => `?proxy_iam_role_arn=${encodeURIComponent(arn(name))}`;
  async function granted(): Promise<string> {
    const run = runId(next++);
    world.startRun(run, 'alice');
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal(answer.status, 200);
    return run;
  }

  it('reports each proxy role with its members, their runs and users, and its free capacity', async () => {
    const empty = (await ask(one('listed'))).body.proxy_roles[0];
    const run = await granted();
    const body = await status();
    assert.match(body.lease_holder, /./);
    assert.deepEqual(
      body.proxy_roles.map((role: { proxy_iam_role_arn: string }) => role.proxy_iam_role_arn),
      ['listed', 'pool-1', 'pool-2'].map(arn),
    );
    const role = body.proxy_roles[0];
    assert.equal(role.members.length, 1);
    const { since, ...member } = role.members[0];
    assert.ok(Date.parse(since) <= world.clock.now());
    const account = `run-${run}`;
    assert.deepEqual(member, { service_account: account, run_id: run, user: 'alice', domino_orgs: ['acme'] });
    assert.equal(role.characters_free, role.characters_allowed - role.characters_used);
    assert.ok(role.runs_that_still_fit > 20 && role.runs_that_still_fit <= empty.runs_that_still_fit);
    assert.ok(role.written_at && role.compared_at);
  });

  it('adds up the free capacity of a pool', async () => {
    const { pools, proxy_roles } = await status();
    const rooms = proxy_roles.slice(1).map((role: { runs_that_still_fit: number }) => role.runs_that_still_fit);
    const [pool] = pools;
    assert.equal(pools.length, 1);
    assert.deepEqual(pool.proxy_iam_role_arns, ['pool-1', 'pool-2'].map(arn));
    assert.equal(pool.runs_that_still_fit, rooms[0] + rooms[1]);
  });

  it('compares one role with IAM at once, and repairs an external change', async () => {
    const run = await granted();
    world.aws.setTrust(clusterAccount, 'listed', {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: { AWS: arn('x').replace('role/x', 'root') }, Action: 'sts:AssumeRole' },
      ],
    });
    const { body } = await ask(one('listed'));
    assert.equal(body.compared, true);
    assert.equal(body.proxy_roles.length, 1);
    assert.ok(world.subjects('listed').includes(`*:domino-compute:run-${run}`));
    assert.ok(body.proxy_roles[0].drift.count >= 1);
  });

  it('answers simultaneous comparisons of one role', async () => {
    const answers = await Promise.all([ask(one('pool-1')), ask(one('pool-1')), ask(one('pool-1'))]);
    for (const { body } of answers) assert.equal(body.compared, true);
  });

  it('reports a role’s error with IAM’s message, and the runs that wait', async () => {
    world.domino.addUser({ name: 'bob', orgs: ['gone'] });
    const target = `arn:aws:iam::222222222222:role/gone`;
    await world.map(replica, 'gone', { target, proxies: [arn('gone')] });
    const run = runId(next++);
    world.startRun(run, 'bob');
    await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'bob', body: { run_id: run } });
    const role = (await ask(one('gone'))).body.proxy_roles[0];
    assert.equal(role.error.code, 'role_not_found');
    assert.match(role.error.said, /gone/);
    assert.deepEqual(role.members, []);
    const [waiting] = role.waiting;
    assert.deepEqual([waiting.run_id, waiting.user, waiting.code], [run, 'bob', 'role_not_found']);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'gone' } });
  });

  it('answers 404 for unmapped and unmanaged roles', async () => {
    for (const name of ['unmapped', 'kept']) world.addRolePair(name);
    const kept = { iam_role_arn: arn('kept'), proxy_iam_role_arn: arn('kept'), update_iam_role_trust_policy: false };
    await replica.call('POST', '/update_role_mapping', { as: 'admin', body: { domino_org: 'kept', ...kept } });
    for (const name of ['unmapped', 'kept']) {
      const answer = await ask(one(name));
      assert.equal(answer.status, 404);
      assert.equal(answer.body.code, 'role_not_managed');
    }
  });

  it('is for administrators, and refuses invalid ARNs and parameters', async () => {
    assert.equal((await ask('', 'alice')).status, 403);
    assert.equal((await ask(one('listed'), 'alice')).status, 403);
    for (const query of [
      '?proxy_iam_role_arn=',
      '?proxy_iam_role_arn=x',
      '?proxy_iam_role_arn=a&verbose=1',
      '?role=x',
    ]) {
      assert.equal((await ask(query)).status, 400, query);
    }
    assert.equal((await ask(`${one('listed')}&proxy_iam_role_arn=x`)).status, 400);
  });

  describe('in pages', () => {
    const names = ['listed', 'pool-1', 'pool-2'];
    const rolesOf = (body: { proxy_roles: { proxy_iam_role_arn: string }[] }) =>
      body.proxy_roles.map((role) => role.proxy_iam_role_arn);

    it('lists all roles once, with totals, and with the pools on the first page', async () => {
      const seen: string[] = [];
      let next: string | undefined;
      do {
        const { body } = await ask(`?limit=2${next === undefined ? '' : `&continue=${next}`}`);
        assert.equal(body.totals.proxy_roles, 3);
        assert.equal(body.pools.length, next === undefined ? 1 : 0);
        seen.push(...rolesOf(body));
        next = body.next;
      } while (next !== undefined);
      assert.deepEqual(seen, names.map(arn));
      const whole = await status();
      assert.deepEqual(rolesOf(whole), names.map(arn));
      assert.equal(whole.totals, undefined);
    });

    it('reports the ready replicas from the service’s Deployment, and null where that is unknown', async () => {
      const replicasOf = async (of: Replica) =>
        (await of.call('GET', '/trust_status?limit=1', { as: 'admin' })).body.totals.replicas;
      assert.equal(await replicasOf(replica), null);
      const named = await world.startReplica({ DEPLOYMENT_NAME: 'irsa-svc' });
      assert.equal(await replicasOf(named), null);
      const metadata = { name: 'irsa-svc', namespace: 'domino-field' };
      const template = { metadata: { labels: { 'app.kubernetes.io/name': 'irsa-svc' } } };
      const deployment = { metadata, spec: { replicas: 3, template }, status: { replicas: 3, readyReplicas: 2 } };
      world.kubernetes.put('deployments', deployment);
      world.clock.skip(6_000);
      assert.deepEqual(await replicasOf(named), { ready: 2, wanted: 3 });
      await named.stop();
    });

    it('lists only roles that need attention with needs_attention=true', async () => {
      // Another test may have changed the trust policy of `listed`, which then needs attention too.
      const listed = async () => {
        const { body } = await ask('?needs_attention=true&limit=10');
        assert.equal(body.totals.proxy_roles, (await status()).proxy_roles.length);
        return rolesOf(body).filter((role) => role !== arn('listed'));
      };
      assert.deepEqual(await listed(), []);
      const target = 'arn:aws:iam::222222222222:role/missing';
      await world.map(replica, 'missing', { target, proxies: [arn('missing')] });
      await until(async () => (await listed()).length > 0);
      assert.deepEqual(await listed(), [arn('missing')]);
      await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'missing' } });
    });

    it('refuses pages of a single role, and invalid pages', async () => {
      const odd = ['limit=0', 'limit=501', 'limit=9999999999999999999', 'limit=x', 'needs_attention=yes', 'continue='];
      const ofOne = ['limit=1', 'continue=AAAA', 'needs_attention=false'].map(
        (more) => `${one('listed').slice(1)}&${more}`,
      );
      for (const query of [...odd, ...ofOne]) assert.equal((await ask(`?${query}`)).status, 400, query);
      assert.equal((await ask('?limit=1', 'alice')).status, 403);
    });
  });
});

describe('POST /release_brake', () => {
  let world: World;
  let replica: Replica;
  const role = `arn:aws:iam::${clusterAccount}:role/braked`;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('braked'));
  });
  after(() => world.stop());

  const release = (proxy_iam_role_arn: unknown, as = 'admin') =>
    replica.call('POST', '/release_brake', { as, body: { proxy_iam_role_arn } });
  /** The removal guard's entry in the published status. */
  const brake = () => {
    const found = world.kubernetes.get<{ data: Record<string, string> }>(
      'configmaps',
      'domino-field',
      statusName(role),
    );
    return trustStatusForm.parse(found?.data ?? {})?.brake;
  };

  it('removes the members that the removal guard holds, and names them', async () => {
    const runs = Array.from({ length: 12 }, (_, index) => runId(index + 1));
    for (const run of runs) world.startRun(run, 'alice');
    const ask = (run_id: string) => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id } });
    for (const answer of await Promise.all(runs.map(ask))) assert.equal(answer.status, 200);
    assert.deepEqual((await release(role)).body, { proxy_iam_role_arn: role, released: [] });
    world.kubernetes.knobs.emptyLists = true;
    world.kubernetes.expire();
    world.kubernetes.cutWatches();
    await until(() => brake() !== undefined, 10_000);
    const accounts = runs.map((run) => `run-${run}`);
    assert.deepEqual(brake()?.held, accounts);
    assert.deepEqual((await release(role)).body, { proxy_iam_role_arn: role, released: accounts });
    await until(() => world.subjects('braked').length === 1, 10_000);
    const line = replica.log.find(({ audit }) => audit === 'brake');
    assert.deepEqual([line?.user, line?.role, line?.held], ['admin', role, accounts]);
  }).timeout(30_000);

  it('is for administrators, and refuses unmanaged roles and invalid ARNs', async () => {
    assert.equal((await release(role, 'alice')).status, 403);
    assert.equal((await release(`${role}-2`)).body.code, 'role_not_managed');
    for (const bad of ['', 'x', 7, null]) assert.equal((await release(bad)).status, 400);
  });
});
