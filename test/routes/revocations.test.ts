/** Proves POST /revoke_run and /allow_run over the wire: a run is removed at once, until it is allowed or has ended. */
import assert from 'node:assert/strict';
import { revokedConfigMap } from '../../src/runs/revocations.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('revoked runs', () => {
  let world: World;
  let replicas: Replica[];
  let next = 9000;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, RESYNC_SECONDS: '1', GRANT_TIMEOUT_SECONDS: '8' });
    for (const name of ['alice', 'bob']) world.domino.addUser({ name, orgs: ['acme'] });
    replicas = await Promise.all([1, 2].map(() => world.startReplica()));
    await world.map(any(), 'acme', world.addRolePair('listed'));
  });
  after(() => world.stop());

  const any = () => replicas[next % replicas.length] as Replica;
  const admin = (path: string, run_id: unknown, more = {}, as = 'admin') =>
    any().call('POST', path, { as, body: { run_id, ...more } });
  const ask = (run: string, replica = any(), as = 'alice') =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run } });
  const isIn = (account: string) => world.subjects('listed').includes(`*:domino-compute:${account}`);
  const recorded = () =>
    world.kubernetes.get<{ data?: Record<string, string> }>('configmaps', 'domino-field', revokedConfigMap)?.data ?? {};
  /** Waits until the replica refuses the run: another replica learns of a revocation within milliseconds. */
  const refusedBy = (replica: Replica, run: string) => until(async () => (await ask(run, replica)).status === 403);
  async function granted(options = {}) {
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice', options);
    assert.equal((await ask(run)).status, 200);
    return { run, account };
  }

  it('are removed within a second, and every replica refuses them with the reason', async () => {
    const { run, account } = await granted();
    const start = performance.now();
    const answer = await admin('/revoke_run', run, { reason: 'a lost laptop.' });
    assert.equal(answer.status, 200);
    assert.ok(performance.now() - start < 1_000, `${performance.now() - start} ms`);
    assert.equal(isIn(account), false);
    const { revoked_at, ...body } = answer.body;
    assert.ok(revoked_at);
    assert.deepEqual(body, {
      run_id: run,
      revoked: true,
      revoked_by: 'admin',
      reason: 'a lost laptop.',
      service_accounts: [account],
      proxy_iam_role_arns: [`arn:aws:iam::${clusterAccount}:role/listed`],
      left: true,
    });
    for (const replica of replicas) {
      await refusedBy(replica, run);
      const refused = await ask(run, replica);
      assert.equal(refused.body.code, 'run_revoked');
      assert.match(refused.body.detail, /: a lost laptop\. Ask an administrator/);
    }
    assert.equal(isIn(account), false);
  });

  it('are removed when the call returns, even if the write that adds them is under way', async () => {
    const isHolder = ({ log }: Replica) => log.some(({ msg }) => String(msg).startsWith('holding the lease'));
    const holder = replicas.find(isHolder) as Replica;
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    const writes = () => world.aws.writes.filter(({ document }) => document.includes(`:${account}"`));
    world.aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 600 };
    try {
      const asking = ask(run, holder);
      await until(() => writes().length === 1);
      const { body } = await holder.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } });
      assert.deepEqual([body.left, body.proxy_iam_role_arns], [true, []]);
      assert.deepEqual(
        writes().map(({ outcome }) => outcome),
        ['ok'],
      );
      assert.equal(isIn(account), false);
      assert.equal((await asking).status, 403);
    } finally {
      world.aws.knobs.latencyMs = {};
    }
  });

  it('become members again when they are allowed, without a new request', async () => {
    const { run, account } = await granted();
    await admin('/revoke_run', run);
    const allowed = await admin('/allow_run', `run-${run}`);
    assert.deepEqual(allowed.body, { run_id: run, revoked: false, was_revoked: true });
    await until(() => isIn(account));
    await until(async () => (await ask(run)).status === 200);
    assert.deepEqual((await admin('/allow_run', run)).body, { run_id: run, revoked: false, was_revoked: false });
  });

  it('keep the time and reason of the first revocation when revoked again', async () => {
    const { run } = await granted();
    const first = await admin('/revoke_run', run, { reason: 'first' });
    const second = await admin('/revoke_run', run, { reason: 'second' });
    assert.equal(second.status, 200);
    assert.equal(second.body.reason, 'first');
    assert.equal(second.body.revoked_at, first.body.revoked_at);
    const many = await Promise.all(
      replicas.map((replica) => replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } })),
    );
    for (const answer of many) assert.equal(answer.status, 200);
  });

  it('are shown to their user with the reason in /my_access', async () => {
    const { run } = await granted();
    await admin('/revoke_run', run, { reason: 'an audit' });
    await until(async () => {
      const { body } = await any().call('GET', `/my_access?run_id=${run}`, { as: 'alice' });
      return body.access.every(
        (entry: { code: string; reason: string }) => entry.code === 'run_revoked' && /: an audit\.$/.test(entry.reason),
      );
    });
  });

  it('end a waiting request with 403', async () => {
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    world.aws.knobs.hangNext = { GetRole: 1 };
    const waiting = ask(run);
    await until(
      () =>
        world.kubernetes.get<{ metadata: { annotations?: object } }>('serviceaccounts', 'domino-compute', account)
          ?.metadata.annotations !== undefined,
    );
    const revoking = admin('/revoke_run', run);
    const answer = await waiting;
    world.aws.knobs.hangNext = {};
    assert.equal(answer.status, 403);
    assert.equal((await revoking).status, 200);
    await until(() => !isIn(account));
  });

  it('share the revocation with another run of the same service account, until they end', async () => {
    const { run } = await granted({ account: 'static-sa' });
    const other = runId(next++);
    world.startRun(other, 'alice', { account: 'static-sa' });
    assert.equal((await ask(other)).status, 200);
    await admin('/revoke_run', run);
    await until(() => !isIn('static-sa'));
    await until(async () => (await ask(other)).body.code === 'run_revoked');
    world.endRun(run);
    await until(async () => (await ask(other)).status === 200);
  });

  it('are removed also where an earlier release made them members', async () => {
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    const document = structuredClone(world.aws.role(clusterAccount, 'listed').document) as {
      Statement: { Condition: { StringLike: Record<string, string[]> } }[];
    };
    const key = `${world.issuer.issuer}:sub`;
    document.Statement[0]?.Condition.StringLike[key]?.push(`*:domino-compute:${account}`);
    world.aws.setTrust(clusterAccount, 'listed', document);
    await until(async () => (await admin('/revoke_run', run)).status === 200);
    await until(() => !isIn(account));
  });

  it('are removed even where they are all members of a role', async () => {
    await world.map(any(), 'crowd', world.addRolePair('crowded'));
    world.domino.addUser({ name: 'carol', orgs: ['crowd'] });
    const runs = Array.from({ length: 14 }, () => runId(next++));
    for (const run of runs) world.startRun(run, 'carol');
    for (const answer of await Promise.all(runs.map((run) => ask(run, any(), 'carol'))))
      assert.equal(answer.status, 200);
    const answers = await Promise.all(runs.map((run) => admin('/revoke_run', run)));
    for (const answer of answers) assert.equal(answer.body.left, true);
    assert.deepEqual(world.subjects('crowded'), ['irsa-svc:no-live-runs']);
  });

  it('stay revoked after a change of leader', async () => {
    const { run, account } = await granted();
    await admin('/revoke_run', run);
    const holding = replicas.findIndex(({ log }) => log.some(({ msg }) => String(msg).startsWith('holding the lease')));
    await replicas[holding]?.stop();
    replicas.splice(holding, 1, await world.startReplica());
    const later = await granted();
    assert.ok(isIn(later.account));
    assert.equal(isIn(account), false);
    assert.equal((await ask(run)).status, 403);
  });

  it('are forgotten after the run has ended, and kept while it lives', async () => {
    const [ended, alive] = [await granted(), await granted()];
    for (const { run } of [ended, alive]) await admin('/revoke_run', run);
    world.endRun(ended.run);
    world.clock.skip(61_000);
    await until(() => recorded()[ended.run] === undefined);
    assert.ok(recorded()[alive.run]);
    assert.equal((await ask(alive.run)).status, 403);
  });

  it('may have ended while their service account keeps the role request', async () => {
    const { run, account } = await granted({ account: 'kept-sa' });
    world.endRun(run);
    await until(() => !isIn(account));
    for (const replica of replicas) {
      const revoked = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } });
      assert.deepEqual([revoked.status, revoked.body.service_accounts], [200, [account]]);
      const allowed = await replica.call('POST', '/allow_run', { as: 'admin', body: { run_id: run } });
      assert.equal(allowed.status, 200);
    }
  });

  it('need not be in the replica’s watch yet; unknown runs get 404', async () => {
    for (const path of ['/revoke_run', '/allow_run']) {
      const answer = await admin(path, runId(next++));
      assert.equal(answer.status, 404);
      assert.equal(answer.body.code, 'run_not_found');
    }
    // The replica's watch does not have this run yet.
    world.kubernetes.knobs.freezeWatches = true;
    const run = runId(next++);
    world.startRun(run, 'alice');
    const answer = admin('/revoke_run', run);
    await until(() => recorded()[run] !== undefined);
    world.kubernetes.knobs.freezeWatches = false;
    assert.equal((await answer).status, 200);
  });

  it('require an administrator, a valid run id and a reason of one line', async () => {
    const { run } = await granted();
    for (const path of ['/revoke_run', '/allow_run']) {
      assert.equal((await admin(path, run, {}, 'alice')).status, 403);
      for (const bad of ['', 'x', 7, null, `${run}0`]) assert.equal((await admin(path, bad)).status, 400);
      assert.equal((await admin(path, run, { surprise: 1 })).status, 400);
    }
    for (const reason of ['', 'a\nb', 'x'.repeat(301), 7]) {
      assert.equal((await admin('/revoke_run', run, { reason })).status, 400);
    }
    assert.equal(recorded()[run], undefined);
    assert.equal((await ask(run)).status, 200);
  });

  it('are audited', async () => {
    const { run } = await granted();
    await admin('/revoke_run', run, { reason: 'audited' });
    await admin('/allow_run', run);
    const lines = replicas.flatMap(({ log }) => log).filter((line) => line.audit === 'revocation' && line.run === run);
    assert.deepEqual(lines.map(({ decision, user }) => [decision, user]).sort(), [
      ['allowed', 'admin'],
      ['revoked', 'admin'],
    ]);
  });

  describe('in a dry run', () => {
    it('are listed with their roles and the runs that share the service account, and nothing is written', async () => {
      const { run, account } = await granted({ account: 'alice-shared' });
      const sharing = runId(next++);
      world.startRun(sharing, 'alice', { account: 'alice-shared' });
      const dry = () => any().call('POST', '/revoke_run?dry_run=true', { as: 'admin', body: { run_id: run } });
      await until(async () => (await dry()).body.shut_out_too?.length === 1);
      const before = JSON.stringify(recorded());
      const { body } = await dry();
      const whose = { service_account: account, run_id: run, user: 'alice' };
      const proxy_iam_role_arn = `arn:aws:iam::${clusterAccount}:role/listed`;
      const [lost] = body.loses;
      assert.deepEqual(body, {
        ...{ dry_run: true, run_id: run, revoked: false, user: 'alice', service_accounts: [account] },
        loses: [{ ...whose, iam_role_arn: lost.iam_role_arn, proxy_iam_role_arn }],
        shut_out_too: [{ run_id: sharing, user: 'alice' }],
        stays_in: [],
      });
      assert.equal(JSON.stringify(recorded()), before);
      assert.equal(isIn(account), true);
      assert.equal((await ask(run)).status, 200);
    });

    it('show an earlier revocation, and invalid requests are refused as in the real call', async () => {
      const { run } = await granted();
      await admin('/revoke_run', run, { reason: 'first' });
      const dry = (run_id: unknown, as = 'admin') =>
        any().call('POST', '/revoke_run?dry_run=true', { as, body: { run_id } });
      await until(async () => (await dry(run)).body.revoked === true);
      const { body } = await dry(run);
      assert.deepEqual([body.revoked_by, body.reason], ['admin', 'first']);
      assert.equal((await dry(runId(1))).status, 404);
      assert.equal((await dry('__proto__')).status, 400);
      assert.equal((await dry(run, 'alice')).status, 403);
      const odd = await any().call('POST', '/revoke_run?dry_run=yes', { as: 'admin', body: { run_id: run } });
      assert.equal(odd.status, 400);
    });
  });

  describe('in a list', () => {
    it('have the administrator, the user and the reason, the newest first, in pages', async () => {
      const one = await granted();
      const two = await granted();
      await admin('/revoke_run', one.run, { reason: 'one' });
      world.clock.skip(1_000);
      await admin('/revoke_run', two.run, { reason: 'two' });
      const list = async (query = '') => (await any().call('GET', `/revoked_runs${query}`, { as: 'admin' })).body;
      await until(async () => (await list('?limit=2')).revoked_runs[0]?.run_id === two.run);
      const { revoked_runs: runs, total } = await list();
      assert.equal(total, runs.length);
      assert.equal(total, Object.keys(recorded()).length);
      const { revoked_at, ...first } = runs[0];
      assert.ok(revoked_at);
      assert.deepEqual(first, { run_id: two.run, revoked_by: 'admin', reason: 'two', user: 'alice', live_pods: 1 });
      const page = await list('?limit=1');
      assert.deepEqual((await list(`?limit=1&continue=${page.next}`)).revoked_runs[0].run_id, runs[1].run_id);
      assert.equal((await list(`?limit=500`)).next, undefined);
    });

    it('are shown to administrators only', async () => {
      assert.equal((await any().call('GET', '/revoked_runs', { as: 'alice' })).status, 403);
      assert.equal((await any().call('GET', '/revoked_runs')).status, 401);
      assert.equal((await any().call('GET', '/revoked_runs?limit=1000000', { as: 'admin' })).status, 400);
    });
  });
});
