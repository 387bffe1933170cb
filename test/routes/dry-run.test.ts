/** Proves `?dry_run=true` on the mapping calls over the wire: it reports what would change, and changes nothing. */
import assert from 'node:assert/strict';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('a dry run of a mapping call', () => {
  let world: World;
  let replica: Replica;
  let run: string;
  const arn = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;
  const target = (name: string) => `arn:aws:iam::${assetAccount}:role/${name}`;
  const entry = (name: string, proxy: string) => ({ iam_role_arn: target(name), proxy_iam_role_arn: arn(proxy) });

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    const pool = world.addRolePair('pool', ['pool-1', 'pool-2']);
    await world.map(replica, 'acme', world.addRolePair('listed'), pool);
    world.addRolePair('new');
    run = runId(5);
    world.startRun(run, 'alice');
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal(answer.status, 200);
    await until(async () => {
      const { body } = await replica.call('GET', '/trust_status', { as: 'admin' });
      return body.proxy_roles.every(({ published }: { published: boolean }) => published);
    });
  });
  after(() => world.stop());

  const many = (role_data: object[], query = '?dry_run=true', as = 'admin') =>
    replica.call('POST', `/update_multirole_mapping${query}`, { as, body: { domino_org: 'acme', role_data } });
  const whole = [entry('listed', 'listed'), entry('pool', 'pool-1'), entry('pool', 'pool-2')];

  /** Everything that a real call would change. */
  function snapshot() {
    const roles = ['listed', 'pool-1', 'pool-2', 'new'];
    return {
      configMap: world.kubernetes.get('configmaps', 'domino-field', mappingConfigMap),
      histories: roles.map((name) => world.aws.role(clusterAccount, name).history.length),
      account: world.kubernetes.get('serviceaccounts', 'domino-compute', `run-${run}`),
      audits: replica.log.filter(({ audit }) => audit === 'mapping').length,
    };
  }
  async function changesNothing<T>(call: () => Promise<T>): Promise<T> {
    const before = snapshot();
    const answer = await call();
    assert.deepEqual(snapshot(), before);
    return answer;
  }
  const affected = () => ({ service_account: `run-${run}`, run_id: run, user: 'alice' });

  it('reports which run would lose which role, and what members of the organization would gain', async () => {
    const { status, body } = await changesNothing(() => many([entry('new', 'new')]));
    assert.equal(status, 200);
    const filled = { domino_org: 'acme', update_iam_role_trust_policy: true };
    assert.deepEqual(body.role_data, [{ ...entry('new', 'new'), ...filled }]);
    const lost = (name: string, proxy: string) => ({
      ...affected(),
      ...entry(name, proxy),
      again_at_next_refresh: false,
    });
    assert.deepEqual(body.loses, [lost('listed', 'listed'), lost('pool', 'pool-1')]);
    assert.deepEqual(body.gains_at_next_refresh, [{ iam_role_arn: target('new'), who: 'members of acme' }]);
    assert.deepEqual(body.proxy_roles, [{ proxy_iam_role_arn: arn('new'), published: false }]);
  });

  it('reports which run would move to another proxy role, and whether all fit', async () => {
    const { body } = await changesNothing(() => many([entry('listed', 'listed'), entry('pool', 'pool-2')]));
    assert.deepEqual(body.loses, []);
    const move = { ...affected(), iam_role_arn: target('pool'), from: arn('pool-1'), to: [arn('pool-2')] };
    assert.deepEqual(body.moves, [move]);
    assert.equal(body.fits, true);
    const [first, second] = body.proxy_roles;
    assert.ok(first.runs_that_still_fit < second.runs_that_still_fit);
    assert.ok(second.characters_free > 1_000);
  });

  it('omits a service account after the run that requested the role has ended', async () => {
    const [first, second] = [runId(6), runId(7)];
    const account = 'static-alice';
    world.startRun(first, 'alice', { account });
    const body = { run_id: first };
    assert.equal((await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body })).status, 200);
    const loses = async () => (await many([entry('new', 'new')])).body.loses as { service_account: string }[];
    const isNamed = async () => (await loses()).some(({ service_account }) => service_account === account);
    assert.equal(await isNamed(), true);
    world.startRun(second, 'alice', { account });
    world.endRun(first);
    await until(() => !world.subjects('listed').includes(`*:domino-compute:${account}`));
    assert.equal(await isNamed(), false);
    world.endRun(second);
  });

  it('reports no change for the mappings in force', async () => {
    const { body } = await changesNothing(() => many(whole));
    assert.deepEqual([body.loses, body.moves, body.gains_at_next_refresh, body.fits], [[], [], [], true]);
  });

  it('works for a single mapping and for a deletion', async () => {
    const one = { domino_org: 'acme', ...entry('listed', 'listed') };
    const call = () => replica.call('POST', '/update_role_mapping?dry_run=true', { as: 'admin', body: one });
    assert.deepEqual(
      (await changesNothing(call)).body.loses.map((loss: { iam_role_arn: string }) => loss.iam_role_arn),
      [target('pool')],
    );
    const remove = (domino_org: string) =>
      replica.call('DELETE', '/delete_role_mapping?dry_run=true', { as: 'admin', body: { domino_org } });
    const { body } = await changesNothing(() => remove('acme'));
    assert.equal(body.loses.length, 2);
    assert.deepEqual(body.role_data, []);
    const missing = await changesNothing(() => remove('nobody'));
    assert.equal(missing.status, 404);
    assert.equal(missing.body.code, 'mapping_not_found');
  });

  it('reports that a missing role does not fit, and that a role which IAM fails to read is not checked', async () => {
    const missing = await changesNothing(() => many([...whole, entry('listed', 'no-such-role')]));
    assert.equal(missing.body.fits, false);
    assert.deepEqual(
      missing.body.warnings.map(({ code, role_arn: role }: { code: string; role_arn: string }) => [code, role]),
      [['role_not_found', arn('no-such-role')]],
    );
    world.aws.knobs.failRate = { GetRole: { code: 'ServiceFailure', rate: 1 } };
    try {
      const unknown = await changesNothing(() => many([...whole, entry('new', 'new')]));
      assert.equal(unknown.body.fits, null);
      assert.equal(unknown.body.warnings[0].code, 'role_not_checked');
    } finally {
      world.aws.knobs.failRate = {};
    }
    const there = await changesNothing(() => many([...whole, entry('new', 'new')]));
    assert.deepEqual([there.body.fits, there.body.warnings], [true, []]);
  });

  it('warns of organizations that would reach each other’s roles through a shared proxy role', async () => {
    world.domino.addUser({ name: 'owner', admin: true, orgs: ['labs'] });
    const body = { domino_org: 'labs', role_data: [entry('new', 'listed')] };
    const call = (query: string) => replica.call('POST', `/update_multirole_mapping${query}`, { as: 'owner', body });
    const { warnings } = (await changesNothing(() => call('?dry_run=true'))).body;
    assert.deepEqual(
      warnings.map(({ code }: { code: string }) => code),
      ['proxy_role_shared', 'proxy_role_shared'],
    );
    assert.deepEqual((await call('')).body.warnings, warnings);
    const { proxy_roles: roles } = (await replica.call('GET', '/trust_status', { as: 'admin' })).body;
    const one = roles.find((role: { proxy_iam_role_arn: string }) => role.proxy_iam_role_arn === arn('listed'));
    assert.deepEqual(one.shared, [
      { domino_org: 'acme', reaches_too: [target('new')] },
      { domino_org: 'labs', reaches_too: [target('listed')] },
    ]);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'labs' } });
  });

  it('is refused as the real call would be', async () => {
    const foreign = { iam_role_arn: target('x'), proxy_iam_role_arn: target('x') };
    const answer = await changesNothing(() => many([whole[0] as object, foreign]));
    assert.equal(answer.status, 400);
    assert.ok(answer.text.includes('/body/role_data/1/proxy_iam_role_arn'));
    assert.equal((await many([entry('new', 'x y')])).status, 400);
    assert.equal((await many([entry('new', 'new')], '?dry_run=true', 'alice')).status, 403);
    for (const query of ['?dry_run=yes', '?dry_run=', '?dry_run=true&dry_run=false', '?dry-run=true']) {
      assert.equal((await changesNothing(() => many([entry('new', 'new')], query))).status, 400, query);
    }
  });

  it('with dry_run=false writes', async () => {
    const { status, body } = await many(whole, '?dry_run=false');
    assert.equal(status, 200);
    assert.deepEqual(Object.keys(body), ['domino_org', 'role_data']);
    assert.equal(snapshot().audits, 4);
  });

  it('predicts what the real call does', async () => {
    const told = (await many([entry('pool', 'pool-2')])).body;
    assert.equal((await many([entry('pool', 'pool-2')], '')).status, 200);
    const subject = `*:domino-compute:run-${run}`;
    await until(() => world.subjects('pool-2').includes(subject) && !world.subjects('pool-1').includes(subject));
    await until(() => !world.subjects('listed').includes(subject));
    assert.deepEqual([told.loses.length, told.moves.length], [1, 1]);
  });
});
