/** Proves over the wire that a mapped name stands for one organization: no other of that name gets its roles. */
import assert from 'node:assert/strict';
import { organizationConfigMap } from '../../src/mappings/organizations.ts';
import { organizationIdOf } from '../stack/domino.ts';
import { until } from '../support/clock.ts';
import { type Replica, runId, startWorld, type World } from '../support/world.ts';

const own = organizationIdOf('acme');
const other = 'f'.repeat(24);

describe('an organization', () => {
  let world: World;
  let replicas: [Replica, Replica];
  let pair: ReturnType<World['addRolePair']>;
  let runs = 0;

  beforeEach(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    world.domino.addUser({ name: 'mallory', orgs: ['acme'], orgIds: { acme: other } });
    world.domino.addUser({ name: 'owner', admin: true, orgs: ['acme'] });
    replicas = [await world.startReplica(), await world.startReplica()];
    pair = world.addRolePair('listed');
  });
  afterEach(() => world.stop());

  async function ask(user: string, replica = replicas[0]) {
    runs += 1;
    const run = runId(runs);
    const { account } = world.startRun(run, user);
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    return { answer, account, run };
  }
  const map = (as = 'admin', query = '') => {
    const body = { domino_org: 'acme', iam_role_arn: pair.target, proxy_iam_role_arn: pair.proxies[0] };
    return replicas[0].call('POST', `/update_role_mapping${query}`, { as, body });
  };
  const listed = async () => (await replicas[1].call('GET', '/role_mappings', { as: 'admin' })).body;
  const accept = (organization_id: string, as = 'admin') =>
    replicas[1].call('POST', '/accept_organization', { as, body: { domino_org: 'acme', organization_id } });
  const metricsOf = (replica: Replica) => replica.metrics.registry.metrics();
  const subjectOf = (account: string) => `*:domino-compute:${account}`;
  const isGranted = (text: string) => text.includes('[profile listed]');

  it('is recorded when an administrator who is its member maps it, and another of that name gets no role', async () => {
    assert.deepEqual((await map('owner')).body.warnings, undefined);
    const { organizations, all_role_mappings: all } = await listed();
    assert.equal(organizations.acme.organization_id, own);
    assert.equal(organizations.acme.by, 'owner');
    const keys = ['domino_org', 'iam_role_arn', 'proxy_iam_role_arn', 'update_iam_role_trust_policy'];
    assert.deepEqual(Object.keys(all.acme[0]), keys);
    assert.ok(isGranted((await ask('alice')).answer.text));
    for (const replica of replicas) {
      const { answer, account } = await ask('mallory', replica);
      assert.equal(answer.status, 200);
      assert.match(answer.text, /^# listed: refused, organization_id_mismatch: .*another organization/m);
      assert.ok(!isGranted(answer.text));
      assert.ok(!world.subjects('listed').includes(subjectOf(account)));
    }
  });

  it('without a record, as after an upgrade, is recorded with the first request of a member', async () => {
    await map();
    assert.deepEqual((await listed()).organizations, {});
    const { answer } = await ask('alice', replicas[1]);
    assert.ok(isGranted(answer.text));
    const { organization_id: id, by } = (await listed()).organizations.acme;
    assert.deepEqual([id, by], [own, 'alice']);
    assert.ok(
      replicas[1].log.some(({ audit, level, organization_id: met }) => {
        return audit === 'organization' && level === 'warn' && met === own;
      }),
    );
    assert.ok(!isGranted((await ask('mallory')).answer.text));
  });

  it('or another of that name gets the role, not both, when members of both ask two replicas at once', async () => {
    await map();
    const answers = await Promise.all([ask('alice', replicas[0]), ask('mallory', replicas[1])]);
    assert.deepEqual(
      answers.map(({ answer }) => answer.status),
      [200, 200],
    );
    assert.equal(answers.filter(({ answer }) => isGranted(answer.text)).length, 1);
  });

  it('that is refused is in the log, a metric and the list, until an administrator decides', async () => {
    await map('owner');
    await ask('mallory');
    await ask('mallory');
    const refusals = replicas[0].log.filter(({ audit, level }) => audit === 'organization' && level === 'error');
    assert.equal(refusals.length, 1);
    assert.deepEqual([refusals[0]?.org, refusals[0]?.user, refusals[0]?.mapped_id], ['acme', 'mallory', own]);
    assert.match(await metricsOf(replicas[0]), /irsa_organization_refusals_total 2/);
    for (const replica of replicas) {
      await until(async () => /irsa_contested_organizations 1/.test(await metricsOf(replica)));
    }
    const [contender] = (await listed()).organizations.acme.contenders;
    assert.deepEqual([contender.organization_id, contender.user], [other, 'mallory']);
    const [warning] = (await map('admin', '?dry_run=true')).body.warnings;
    assert.equal(warning.code, 'organization_id_mismatch');
    assert.ok(warning.detail.includes(other));
    assert.equal((await accept(own)).body.before, own);
    for (const replica of replicas) {
      await until(async () => /irsa_contested_organizations 0/.test(await metricsOf(replica)));
    }
  });

  it('gets the roles when an administrator accepts it, and runs of the former organization lose them', async () => {
    await map('owner');
    const former = await ask('alice');
    assert.ok(world.subjects('listed').includes(subjectOf(former.account)));
    assert.equal((await accept(other, 'alice')).status, 403);
    assert.deepEqual((await accept(other)).body, { domino_org: 'acme', organization_id: other, before: own });
    await until(() => !world.subjects('listed').includes(subjectOf(former.account)));
    const { answer, account } = await ask('mallory');
    assert.ok(isGranted(answer.text));
    assert.ok(world.subjects('listed').includes(subjectOf(account)));
    assert.ok(!isGranted((await ask('alice', replicas[1])).answer.text));
  });

  it('that was accepted before it was mapped is the one that gets the roles', async () => {
    assert.deepEqual((await accept(own)).body.before, null);
    const { warnings } = (await map()).body;
    assert.equal(warnings, undefined);
    assert.ok(!isGranted((await ask('mallory')).answer.text));
    assert.ok(isGranted((await ask('alice')).answer.text));
  });

  it('without a record causes a warning in a dry run and in the answer, until it is recorded', async () => {
    for (const query of ['?dry_run=true', '']) {
      const { status, body } = await map('admin', query);
      assert.equal(status, 200);
      assert.deepEqual(
        body.warnings.map(({ code }: { code: string }) => code),
        ['organization_unknown'],
        query,
      );
    }
    await ask('alice');
    assert.deepEqual((await map('admin', '?dry_run=true')).body.warnings, []);
  });

  it('that is not the recorded one gets a reason in /my_access and no mappings in /my_role_mappings', async () => {
    await map('owner');
    const get = async (path: string, as: string) => (await replicas[0].call('GET', path, { as })).body;
    const [entry] = (await get('/my_access', 'mallory')).access;
    assert.equal(entry.code, 'organization_id_mismatch');
    assert.match(entry.reason, /another organization of that name/);
    assert.match(entry.advice, /administrator/);
    assert.deepEqual((await get('/my_role_mappings', 'mallory')).my_role_mappings, []);
    assert.equal((await get('/my_role_mappings', 'alice')).my_role_mappings.length, 1);
  });

  it('without an id from Domino counts by its name until an id is recorded', async () => {
    await map();
    world.domino.addUser({ name: 'bob', orgs: ['acme'], orgIds: { acme: null } });
    assert.ok(isGranted((await ask('bob')).answer.text));
    await ask('alice');
    assert.match((await ask('bob')).answer.text, /organization_id_mismatch/);
  });

  it('is neither read from Kubernetes nor written again once it is recorded', async () => {
    await map();
    const { run } = await ask('alice');
    const stored = () => world.kubernetes.get('configmaps', 'domino-field', organizationConfigMap);
    const calls = () => world.kubernetes.calls.get('get configmaps');
    const before = [calls(), stored()];
    await replicas[0].call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.deepEqual([calls(), stored()], before);
    assert.notEqual(before[0], undefined);
  });

  it('has its record in another ConfigMap than the mappings, as release 1.8 needs', async () => {
    await map('owner');
    const stored = (name: string) =>
      world.kubernetes.get<{ data: Record<string, string> }>('configmaps', 'domino-field', name)?.data ?? {};
    assert.deepEqual(Object.keys(stored('domino-org-iamrole-mapping')), ['acme']);
    assert.deepEqual(Object.keys(stored(organizationConfigMap)), ['acme']);
  });
});
