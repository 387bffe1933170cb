import assert from 'node:assert/strict';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, startWorld, type World } from '../support/world.ts';

const target = `arn:aws:iam::${assetAccount}:role/acme-list-bucket-role`;
const proxy = `arn:aws:iam::${clusterAccount}:role/acme-list-bucket-role`;

describe('role mappings', () => {
  let world: World;
  let replica: Replica;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme', 'no-such-org'] });
    replica = await world.startReplica();
  });
  beforeEach(() => {
    world.kubernetes.put('configmaps', {
      metadata: { name: mappingConfigMap, namespace: 'domino-field', labels: { kept: 'yes' } },
      data: {},
    });
  });
  after(() => world.stop());

  const update = (body: unknown, as = 'admin') => replica.call('POST', '/update_role_mapping', { as, body });
  const updateMany = (body: unknown) => replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
  const all = async () => (await replica.call('GET', '/role_mappings', { as: 'admin' })).body.all_role_mappings;
  const stored = () =>
    world.kubernetes.get<{ data: Record<string, string> }>('configmaps', 'domino-field', mappingConfigMap);

  it('that cannot be parsed are logged by organization and counted in a metric', async () => {
    const told = () => replica.metrics.registry.metrics();
    assert.match(await told(), /irsa_unusable_mappings\{to="roles"\} 0/);
    const metadata = { name: mappingConfigMap, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { metadata, data: { acme: '{"iam_role_arn": ', 'no-such-org': 'x' } });
    await until(async () => /irsa_unusable_mappings\{to="roles"\} 2/.test(await told()));
    assert.ok(replica.log.some(({ level, org }) => level === 'error' && org === 'acme'));
    await update({ domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy });
    await until(async () => /irsa_unusable_mappings\{to="roles"\} 1/.test(await told()));
  });

  it('are set, listed, shown to members of the organization, and deleted', async () => {
    const sent = { domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy };
    assert.equal((await update(sent)).status, 200);
    const full = { ...sent, update_iam_role_trust_policy: true };
    assert.deepEqual(await all(), { acme: [full] });
    const mine = await replica.call('GET', '/my_role_mappings', { as: 'alice' });
    assert.deepEqual(mine.body, { my_role_mappings: [full] });
    const deleted = await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    assert.equal(deleted.status, 200);
    assert.deepEqual(await all(), {});
    const again = await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    assert.equal(again.status, 404);
    assert.equal(again.body.code, 'mapping_not_found');
  });

  it('are returned with the types and values that were sent', async () => {
    const entries = [
      { iam_role_arn: target, proxy_iam_role_arn: proxy, update_iam_role_trust_policy: 'false' },
      {
        iam_role_arn: `${target}-2`,
        proxy_iam_role_arn: `${proxy}-2`,
        update_iam_role_trust_policy: 'true',
        domino_org: 'acme',
      },
      { iam_role_arn: `${target}-3`, proxy_iam_role_arn: proxy, update_iam_role_trust_policy: false },
      { iam_role_arn: `${target}-4`, proxy_iam_role_arn: `${proxy}-2` },
    ];
    assert.equal((await updateMany({ domino_org: 'acme', role_data: entries })).status, 200);
    const filled = { domino_org: 'acme', update_iam_role_trust_policy: true };
    assert.deepEqual(await all(), { acme: entries.map((entry) => ({ ...filled, ...entry })) });
  });

  it('of older releases are read, and their stored text stays unchanged', async () => {
    const old = { iam_role_arn: target, proxy_iam_role_arn: proxy };
    world.kubernetes.put('configmaps', {
      metadata: { name: mappingConfigMap, namespace: 'domino-field' },
      data: {
        old: JSON.stringify(old),
        list: JSON.stringify([old, { ...old, update_iam_role_trust_policy: 'false' }]),
        broken: '{',
      },
    });
    const listed = await all();
    assert.deepEqual(Object.keys(listed), ['list', 'old']);
    assert.deepEqual(listed.old, [{ ...old, domino_org: 'old', update_iam_role_trust_policy: true }]);
    assert.equal(listed.list.length, 2);
    await update({ domino_org: 'acme', ...old });
    assert.equal(stored()?.data.old, JSON.stringify(old));
    assert.equal(stored()?.data.broken, '{');
    assert.deepEqual(JSON.parse(stored()?.data.acme ?? '').length, 1);
  });

  it('that administrators set at the same time are all stored', async () => {
    const orgs = Array.from({ length: 12 }, (_, index) => `org-${index}`);
    const answers = await Promise.all(
      orgs.map((domino_org) => update({ domino_org, iam_role_arn: target, proxy_iam_role_arn: proxy })),
    );
    // The replica writes simultaneous changes together, so none conflicts with another.
    for (const answer of answers) assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(Object.keys(await all()).sort(), orgs.toSorted());
    assert.deepEqual(
      world.kubernetes.get<{ metadata: { labels: object } }>('configmaps', 'domino-field', mappingConfigMap)?.metadata
        .labels,
      { kept: 'yes' },
    );
  });

  it('are stored in a new ConfigMap where there is none', async () => {
    world.kubernetes.remove('configmaps', 'domino-field', mappingConfigMap);
    assert.equal((await update({ domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy })).status, 200);
    assert.deepEqual(Object.keys(await all()), ['acme']);
  });

  it('too large for a ConfigMap are refused as a whole', async () => {
    const text = JSON.stringify([{ iam_role_arn: target, proxy_iam_role_arn: proxy, padding: 'x'.repeat(1_048_000) }]);
    world.kubernetes.put('configmaps', {
      metadata: { name: mappingConfigMap, namespace: 'domino-field' },
      data: { big: text },
    });
    const role_data = Array.from({ length: 10 }, (_, index) => ({
      iam_role_arn: `${target}-${index}`,
      proxy_iam_role_arn: proxy,
    }));
    const answer = await updateMany({ domino_org: 'acme', role_data });
    assert.equal(answer.status, 400);
    assert.match(answer.body.detail, /at most 1048576/);
    assert.deepEqual(Object.keys(stored()?.data ?? {}), ['big']);
  });

  it('are for administrators only', async () => {
    const body = { domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy };
    const calls = [
      update(body, 'alice'),
      replica.call('GET', '/role_mappings', { as: 'alice' }),
      replica.call('POST', '/update_multirole_mapping', {
        as: 'alice',
        body: { domino_org: 'acme', role_data: [body] },
      }),
      replica.call('DELETE', '/delete_role_mapping', { as: 'alice', body: { domino_org: 'acme' } }),
      replica.call('POST', '/service_account', { as: 'alice', body: { service_account_name: 'x' } }),
      replica.call('DELETE', '/service_account', { as: 'alice', body: { service_account_name: 'x' } }),
    ];
    for (const answer of await Promise.all(calls)) {
      assert.equal(answer.status, 403);
      assert.equal(answer.body.code, 'forbidden');
    }
    assert.deepEqual(stored()?.data, {});
  });

  const refused: [string, Record<string, unknown>][] = [
    ['the ARN of a user', { iam_role_arn: `arn:aws:iam::${assetAccount}:user/bob` }],
    ['a role name instead of an ARN', { iam_role_arn: 'acme-list-bucket-role' }],
    ['an ARN with a line break', { iam_role_arn: `${target}\n[profile x]` }],
    ['an ARN with a wildcard', { proxy_iam_role_arn: `arn:aws:iam::${clusterAccount}:role/*` }],
    ['a proxy role in another AWS account', { proxy_iam_role_arn: `arn:aws:iam::${assetAccount}:role/acme` }],
    ['a target role in another partition', { iam_role_arn: `arn:aws-us-gov:iam::${assetAccount}:role/acme` }],
    ['an organization that cannot be a key', { domino_org: 'a/b' }],
    ['the organization ..', { domino_org: '..' }],
    ['the organization __proto__', { domino_org: '__proto__' }],
    ['an empty organization', { domino_org: '' }],
    ['an organization of 1 kB', { domino_org: 'a'.repeat(1_000) }],
    ['a number as the organization', { domino_org: 7 }],
    ['an unknown field', { surprise: true }],
    ['a word other than true or false', { update_iam_role_trust_policy: 'yes' }],
    ['null instead of a boolean', { update_iam_role_trust_policy: null }],
  ];
  for (const [what, change] of refused) {
    it(`with ${what} are refused, naming the field`, async () => {
      const answer = await update({ domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy, ...change });
      assert.equal(answer.status, 400, answer.text);
      assert.equal(answer.body.code, 'invalid_request');
      assert.ok(answer.body.errors.length > 0);
      const [field] = Object.keys(change);
      if (what !== 'an unknown field') assert.ok(answer.text.includes(`/body/${field}`), answer.text);
      assert.deepEqual(stored()?.data, {});
    });
  }

  it('with several wrong fields are refused, naming each', async () => {
    const answer = await update({ domino_org: 'a/b', iam_role_arn: 'x', proxy_iam_role_arn: proxy });
    const paths = answer.body.errors.map(({ path }: { path: string }) => path);
    assert.deepEqual(paths.sort(), ['/body/domino_org', '/body/iam_role_arn']);
    assert.equal(answer.body.title, 'Invalid request');
  });

  it('may name an unmanaged proxy role in another AWS account, and roles with a path', async () => {
    const foreign = `arn:aws:iam::${assetAccount}:role/team/x/acme`;
    const entry = { iam_role_arn: foreign, proxy_iam_role_arn: foreign, update_iam_role_trust_policy: 'false' };
    assert.equal((await update({ domino_org: 'acme', ...entry })).status, 200);
  });

  it('that contradict each other are refused, naming the entry', async () => {
    const pair = { iam_role_arn: target, proxy_iam_role_arn: proxy };
    const lists: [string, object[]][] = [
      ['/body/role_data/0/domino_org', [{ ...pair, domino_org: 'other' }]],
      ['/body/role_data/1', [pair, pair]],
      [
        '/body/role_data/1/update_iam_role_trust_policy',
        [pair, { ...pair, iam_role_arn: `${target}-2`, update_iam_role_trust_policy: 'false' }],
      ],
    ];
    for (const [path, role_data] of lists) {
      const answer = await updateMany({ domino_org: 'acme', role_data });
      assert.deepEqual([answer.status, answer.body.errors?.[0]?.path], [400, path]);
    }
    assert.deepEqual(stored()?.data, {});
  });

  it('without entries are refused', async () => {
    assert.equal((await updateMany({ domino_org: 'acme', role_data: [] })).status, 400);
    assert.equal((await updateMany({ domino_org: 'acme' })).status, 400);
    assert.equal((await update([])).status, 400);
  });

  it('have an audit line for a change, with the mappings before and after', async () => {
    replica.log.length = 0;
    await update({ domino_org: 'acme', iam_role_arn: target, proxy_iam_role_arn: proxy });
    const [line] = replica.log.filter(({ audit }) => audit === 'mapping');
    assert.equal(line?.user, 'admin');
    assert.deepEqual(line?.before, []);
    assert.equal((line?.after as unknown[] | undefined)?.length, 1);
  });
});

describe('service accounts', () => {
  let world: World;
  let replica: Replica;
  before(async () => {
    world = await startWorld();
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const call = (method: 'POST' | 'DELETE', name: unknown) =>
    replica.call(method, '/service_account', { as: 'admin', body: { service_account_name: name } });

  it('are created with the service’s label, and deleted', async () => {
    assert.equal((await call('POST', 'svc-user-1-sa')).status, 200);
    const made = world.kubernetes.get<{ metadata: { labels: object } }>(
      'serviceaccounts',
      'domino-compute',
      'svc-user-1-sa',
    );
    assert.deepEqual(made?.metadata.labels, { 'app.kubernetes.io/managed-by': 'irsa-svc' });
    const twice = await call('POST', 'svc-user-1-sa');
    assert.equal(twice.status, 409);
    assert.equal(twice.body.code, 'service_account_conflict');
    assert.equal((await call('DELETE', 'svc-user-1-sa')).status, 200);
    const gone = await call('DELETE', 'svc-user-1-sa');
    assert.equal(gone.status, 404);
    assert.equal(gone.body.code, 'service_account_not_found');
  });

  it('without the service’s label are not deleted', async () => {
    world.kubernetes.put('serviceaccounts', { metadata: { name: 'theirs', namespace: 'domino-compute' } });
    const answer = await call('DELETE', 'theirs');
    assert.equal(answer.status, 409);
    assert.equal(answer.body.code, 'service_account_conflict');
    assert.ok(world.kubernetes.get('serviceaccounts', 'domino-compute', 'theirs'));
  });

  it('need a valid name', async () => {
    for (const name of ['', 'A', 'a_b', '../x', 'a'.repeat(254), '__proto__', 5, null]) {
      assert.equal((await call('POST', name)).status, 400, String(name));
    }
  });

  it('are refused with 503 while Kubernetes fails', async () => {
    world.kubernetes.knobs.failRate = 1;
    try {
      const answer = await call('POST', 'svc-user-2-sa');
      assert.equal(answer.status, 503);
      assert.equal(answer.body.code, 'kubernetes_unavailable');
      assert.ok(answer.headers['retry-after']);
    } finally {
      world.kubernetes.knobs.failRate = 0;
    }
  });
});
