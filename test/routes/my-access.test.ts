/** Proves GET /my_access over the wire: a user learns the state of each mapping for a run. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Entry {
  domino_org: string;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  code: string;
  reason: string;
  service_accounts?: { service_account: string; in_trust_policy: boolean; since?: string }[];
}

describe('GET /my_access', () => {
  let world: World;
  let replica: Replica;
  let next = 8000;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    for (const name of ['alice', 'bob']) world.domino.addUser({ name, orgs: ['acme', 'pooled'] });
    world.domino.addUser({ name: 'carol', orgs: [] });
    replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('listed'));
    await world.map(replica, 'pooled', world.addRolePair('pool', ['pool-1', 'pool-2']));
  });
  after(() => world.stop());

  const ask = (as: string, run?: string) =>
    replica.call('GET', `/my_access${run === undefined ? '' : `?run_id=${run}`}`, { as });
  const codes = async (as: string, run?: string) => {
    const { body } = await ask(as, run);
    return Object.fromEntries(
      (body.access as Entry[]).map((entry) => [entry.proxy_iam_role_arn.split('/').pop(), entry.code]),
    );
  };
  const grant = (as: string, run: string) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run } });
  function start(user: string, options = {}): string {
    const run = runId(next++);
    world.startRun(run, user, options);
    return run;
  }
  const seen = (user: string, run: string) => until(async () => (await ask(user, run)).status === 200);

  it('reports the user’s mappings and the state of their proxy roles without a run', async () => {
    await until(async () => Object.values(await codes('alice')).every((code) => code === 'ready'));
    assert.deepEqual(await codes('alice'), { listed: 'ready', 'pool-1': 'ready', 'pool-2': 'ready' });
    assert.deepEqual((await ask('carol')).body, { user: 'carol', domino_orgs: [], access: [] });
  });

  it('reports not_requested before the run’s request, and the grant after it', async () => {
    const run = start('alice');
    await seen('alice', run);
    const none = 'not_requested';
    assert.deepEqual(await codes('alice', run), { listed: none, 'pool-1': none, 'pool-2': none });
    await grant('alice', run);
    const { body } = await ask('alice', `run-${run}`);
    assert.equal(body.run.run_id, run);
    assert.equal(body.run.live_pods, 1);
    assert.ok(body.run.asked_at);
    const listed = (body.access as Entry[]).find(({ domino_org }) => domino_org === 'acme');
    assert.equal(listed?.code, 'granted');
    const [account] = listed?.service_accounts ?? [];
    assert.equal(account?.service_account, `run-${run}`);
    assert.equal(account?.in_trust_policy, true);
    assert.ok(Date.parse(account?.since ?? '') <= world.clock.now());
    assert.deepEqual(await codes('alice', run), {
      listed: 'granted',
      'pool-1': 'granted',
      'pool-2': 'in_another_proxy',
    });
  });

  it('does not change the service account, and asks neither AWS nor Kubernetes, nor Domino within 30 s', async () => {
    const run = start('alice');
    await seen('alice', run);
    const asked = () => ({
      aws: { ...world.aws.calls },
      domino: world.domino.calls.length,
      kubernetes: [...world.kubernetes.calls].filter(([call]) => /pods|serviceaccounts|get configmaps/.test(call)),
    });
    const calls = asked();
    const account = () => JSON.stringify(world.kubernetes.get('serviceaccounts', 'domino-compute', `run-${run}`));
    const before = account();
    await ask('alice', run);
    assert.equal(account(), before);
    assert.deepEqual(asked(), calls);
  });

  it('answers for another user’s run as for one that does not exist', async () => {
    const run = start('bob');
    await seen('bob', run);
    const theirs = await ask('alice', run);
    const none = await ask('alice', runId(next++));
    assert.equal(theirs.status, 404);
    assert.equal(theirs.body.code, 'run_not_found');
    assert.deepEqual({ ...theirs.body, request_id: '' }, { ...none.body, request_id: '' });
    assert.equal((await ask('admin', run)).status, 404);
  });

  it('reports why a role is refused, with advice', async () => {
    const target = `arn:aws:iam::${assetAccount}:role/gone`;
    const proxies = [`arn:aws:iam::${clusterAccount}:role/gone`];
    world.domino.addUser({ name: 'dave', orgs: ['gone'] });
    await world.map(replica, 'gone', { target, proxies });
    const run = start('dave');
    await grant('dave', run);
    const [entry] = (await ask('dave', run)).body.access;
    assert.equal(entry.code, 'role_not_found');
    assert.match(entry.reason, /^No IAM role gone in account 111111111111\.$/);
    assert.match(entry.advice, /administrator/);
    assert.equal((await codes('dave')).gone, 'role_not_found');
  });

  it('reports refresh_needed for a later mapping, and mapping_gone for a deleted one', async () => {
    world.domino.addUser({ name: 'erin', orgs: ['early', 'late'] });
    await world.map(replica, 'early', world.addRolePair('early'));
    const run = start('erin');
    await grant('erin', run);
    await world.map(replica, 'late', world.addRolePair('late'));
    assert.deepEqual(await codes('erin', run), { early: 'granted', late: 'refresh_needed' });
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'early' } });
    assert.deepEqual(await codes('erin', run), { late: 'refresh_needed', early: 'mapping_gone' });
  });

  it('reports a shared service account, and an unmanaged role', async () => {
    const run = start('alice', { account: 'shared-sa' });
    start('bob', { account: 'shared-sa' });
    await until(async () => (await codes('alice', run)).listed === 'shared_service_account');
    world.domino.addUser({ name: 'frank', orgs: ['kept'] });
    const { target, proxies } = world.addRolePair('kept');
    const mapping = { iam_role_arn: target, proxy_iam_role_arn: proxies[0], update_iam_role_trust_policy: 'false' };
    await replica.call('POST', '/update_role_mapping', { as: 'admin', body: { domino_org: 'kept', ...mapping } });
    assert.deepEqual(await codes('frank'), { kept: 'kept_elsewhere' });
  });

  it('refuses invalid run ids, and other parameters', async () => {
    for (const bad of ['', 'x', '*', `${runId(1)}0`, 'run-', `${runId(1)}&run_id=${runId(2)}`, `${runId(1)}&x=1`]) {
      const answer = await ask('alice', bad);
      assert.equal(answer.status, 400, bad);
      assert.equal(answer.body.code, 'invalid_request');
    }
    assert.equal((await replica.call('GET', '/my_access')).status, 401);
  });
});
