/** Proves what the calls on Pod Identity mappings refuse, what they never write, and how they answer without EKS. */
import assert from 'node:assert/strict';
import { StatusError } from '../stack/kubernetes-status.ts';
import { until } from '../support/clock.ts';
import { mutationName, type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import {
  field,
  mappedUser,
  mappingName,
  newUser,
  type Stored,
  statusOf,
  untilAllThere,
} from '../support/pod-identity-users.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld } from '../support/world.ts';

const calls = [
  ['GET', '/pod_identity_mappings'],
  ['POST', '/update_pod_identity_mapping'],
  ['DELETE', '/delete_pod_identity_mapping'],
  ['GET', '/my_pod_identity'],
] as const;
const anyBody = { domino_user: 'alice', iam_role_arn: `arn:aws:iam::${clusterAccount}:role/acme-pod` };
const bodyOf = (method: string, path: string) =>
  method === 'POST' ? anyBody : path.startsWith('/delete') ? { domino_user: 'alice' } : undefined;

describe('Pod Identity over HTTP', () => {
  let world: PodIdentityWorld;
  let replica: Replica;

  before(async () => {
    world = await startPodIdentityWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const post = (body: object, query = '') =>
    replica.call('POST', `/update_pod_identity_mapping${query}`, { as: 'admin', body });
  const stored = () => world.kubernetes.get<Stored>('configmaps', field, mappingName);
  const pathsOf = (body: unknown) => (body as { errors?: { path: string }[] }).errors?.map(({ path }) => path);

  it('is for administrators, except GET /my_pod_identity', async () => {
    for (const [method, path] of calls) {
      const body = bodyOf(method, path);
      const given = body === undefined ? {} : { body };
      assert.equal((await replica.call(method, path, given)).status, 401, path);
      const expected = path === '/my_pod_identity' ? 200 : 403;
      assert.equal((await replica.call(method, path, { as: 'alice', ...given })).status, expected, path);
    }
    assert.equal(stored(), undefined);
  });

  const role = (name: string, account = clusterAccount, partition = 'aws') =>
    `arn:${partition}:iam::${account}:role/${name}`;
  const refused: [string, object, string][] = [
    ['a role in another AWS account', { iam_role_arn: role('x', assetAccount) }, '/body/iam_role_arn'],
    ['a role in another partition', { iam_role_arn: role('x', clusterAccount, 'aws-cn') }, '/body/iam_role_arn'],
    [
      'a target role in another partition',
      { target_role_arn: role('x', assetAccount, 'aws-us-gov') },
      '/body/target_role_arn',
    ],
    ['the ARN of a user', { iam_role_arn: `arn:aws:iam::${clusterAccount}:user/x` }, '/body/iam_role_arn'],
    ['the default service account', { service_account: 'default' }, '/body/service_account'],
    ['the service account of a run', { service_account: `run-${runId(1)}` }, '/body/service_account'],
    ['the service account of a run’s cluster', { service_account: `ray-${runId(1)}-ray` }, '/body/service_account'],
    ['a wildcard as the service account', { service_account: '*' }, '/body/service_account'],
    ['an empty service account', { service_account: '' }, '/body/service_account'],
    [
      'a policy variable as the service account',
      { service_account: ['$', '{aws:x}'].join('') },
      '/body/service_account',
    ],
    ['an empty user', { domino_user: '' }, '/body/domino_user'],
    ['a user with a slash', { domino_user: 'a/b' }, '/body/domino_user'],
    ['a user with a line end', { domino_user: 'alice\n' }, '/body/domino_user'],
    ['the user __proto__', { domino_user: '__proto__' }, '/body/domino_user'],
    ['a user name that gives no service account name', { domino_user: '___' }, '/body/service_account'],
    ['a string instead of a boolean', { disable_session_tags: 'true' }, '/body/disable_session_tags'],
    ['null as the target role', { target_role_arn: null }, '/body/target_role_arn'],
    ['an unknown field', { iam_role: 'x' }, '/body/iam_role'],
  ];
  for (const [what, more, path] of refused) {
    it(`refuses ${what}, with and without dry_run, and writes nothing`, async () => {
      for (const query of ['', '?dry_run=true']) {
        const { status, body, text } = await post({ ...anyBody, ...more }, query);
        assert.equal(status, 400, text);
        assert.deepEqual([...new Set(pathsOf(body))], [path], text);
      }
      assert.equal(stored(), undefined);
    });
  }

  it('accepts users called like JavaScript properties', async () => {
    for (const user of ['constructor', 'toString', 'hasOwnProperty']) {
      world.domino.addUser({ name: user, orgs: [] });
      const arn = world.addPodRole(`acme-${user}`);
      const one = { user, arn, role: `acme-${user}`, account: `${user.toLowerCase()}-sa` };
      await world.mapUser(replica, user, arn);
      await untilAllThere(world, one);
      assert.equal((await replica.call('GET', '/my_pod_identity', { as: user })).status, 200);
      await world.unmapUser(replica, user);
    }
    const gone = { as: 'admin', body: { domino_user: 'valueOf' } };
    assert.equal((await replica.call('DELETE', '/delete_pod_identity_mapping', gone)).status, 404);
  });

  it('refuses a user whose name gives another user’s service account, unless the mapping names one', async () => {
    const arns = [world.addPodRole('acme-dot'), world.addPodRole('acme-dash')];
    for (const user of ['bob.smith', 'bob-smith']) world.domino.addUser({ name: user, orgs: [] });
    assert.equal((await post({ domino_user: 'bob.smith', iam_role_arn: arns[0] })).status, 200);
    for (const query of ['', '?dry_run=true']) {
      const answer = await post({ domino_user: 'bob-smith', iam_role_arn: arns[1] }, query);
      assert.equal((answer.body as { code: string }).code, 'service_account_conflict');
    }
    const named = { domino_user: 'bob-smith', iam_role_arn: arns[1], service_account: 'bob-smith-2-sa' };
    assert.equal((await post(named)).status, 200);
  });

  it('refuses a role as both a proxy role of an organization and the role of a user', async () => {
    const pair = world.addRolePair('acme-proxy');
    await world.map(replica, 'acme', pair);
    const asUser = await post({ ...anyBody, iam_role_arn: pair.proxies[0] });
    assert.deepEqual([asUser.status, pathsOf(asUser.body)], [400, ['/body/iam_role_arn']]);
    const one = await mappedUser(world, replica);
    const body = { domino_org: 'acme', iam_role_arn: pair.target, proxy_iam_role_arn: one.arn };
    const asProxy = await replica.call('POST', '/update_role_mapping', { as: 'admin', body });
    assert.equal(asProxy.status, 400, asProxy.text);
  });

  it('reports in a dry run which pods would be affected, and writes nothing', async () => {
    const one = await mappedUser(world, replica);
    const { pod } = world.startWorkload(one.user);
    // The leader learns the user's id from the first workload, and records it.
    await until(() => stored()?.data?.[one.user]?.includes(world.domino.user(one.user).id) ?? false);
    const two = newUser(world);
    const before = [stored()?.metadata.resourceVersion, world.aws.eksWrites.length, world.aws.writes.length];
    const moved = await post(
      { domino_user: one.user, iam_role_arn: one.arn, service_account: 'x-sa' },
      '?dry_run=true',
    );
    const { pods_that_lose_it: losing, pods_to_restart: old } = moved.body as Record<string, string[]>;
    assert.deepEqual([losing, old], [[pod], [pod]]);
    assert.equal((await post({ domino_user: two.user, iam_role_arn: two.arn }, '?dry_run=true')).status, 200);
    const options = { as: 'admin', body: { domino_user: one.user } };
    const gone = await replica.call('DELETE', '/delete_pod_identity_mapping?dry_run=true', options);
    assert.deepEqual((gone.body as { pods_that_lose_it: string[] }).pods_that_lose_it, [pod]);
    assert.deepEqual([stored()?.metadata.resourceVersion, world.aws.eksWrites.length, world.aws.writes.length], before);
    assert.equal(statusOf(world, two.account), undefined);
  });

  it('reports in a dry run the same pods to restart as after the change', async () => {
    const one = newUser(world);
    const { pod } = world.startRun(runId(7), one.user, { account: one.account });
    const toRestart = async () => {
      const answer = await post({ domino_user: one.user, iam_role_arn: one.arn }, '?dry_run=true');
      return (answer.body as { pods_to_restart: string[] }).pods_to_restart.join();
    };
    await until(async () => (await toRestart()) === pod);
    await world.mapUser(replica, one.user, one.arn);
    await world.untilReport(replica, one.user, (found) => found?.restart.map((left) => left.pod).join() === pod);
    assert.equal(await toRestart(), pod);
  });
});

describe('GET /pod_identity_mappings in pages', () => {
  let world: PodIdentityWorld;
  let replica: Replica;
  const users = Array.from({ length: 500 }, (_, index) => `svc-${String(index).padStart(3, '0')}`);
  const storedOf = (user: string) =>
    JSON.stringify({ service_account: `${user}-sa`, iam_role_arn: `arn:aws:iam::${clusterAccount}:role/${user}` });

  before(async () => {
    // Without Mutations the leader makes nothing of the mappings: this test only lists them.
    const rbac = ({ resource }: { resource: string }) => resource !== 'mutations';
    world = await startPodIdentityWorld({}, { access: { rbac, user: 'irsa-svc' } });
    world.domino.addUser({ name: 'alice', orgs: [] });
    const data = Object.fromEntries(users.map((user) => [user, user === 'svc-250' ? '{}' : storedOf(user)]));
    world.kubernetes.put('configmaps', { metadata: { name: mappingName, namespace: field }, data });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  interface Listed {
    pod_identity_mappings: { domino_user: string }[];
    unusable: { domino_user: string }[];
    pod_identities?: { domino_user: string; code: string }[];
    next?: string;
  }
  const ask = (query = '', as = 'admin') => replica.call('GET', `/pod_identity_mappings${query}`, { as });
  const usersOf = (list: readonly { domino_user: string }[] = []) => list.map(({ domino_user: user }) => user);
  async function pagesOf(limit: number): Promise<Listed[]> {
    const pages: Listed[] = [];
    for (let next: string | undefined; ; ) {
      const { status, body } = await ask(`?limit=${limit}${next === undefined ? '' : `&continue=${next}`}`);
      assert.equal(status, 200);
      pages.push(body as Listed);
      next = (body as Listed).next;
      if (next === undefined) return pages;
    }
  }

  it('gives in all pages together what it gives without pages, and the reports of each page’s users', async () => {
    const { body: whole } = await ask();
    assert.deepEqual(
      Object.keys(whole).sort(),
      ['pod_identity_mappings', 'unusable'],
      'the answer without pages has its earlier form',
    );
    assert.deepEqual(usersOf(whole.unusable), ['svc-250']);
    for (const [limit, count] of [
      [100, 5],
      [167, 3],
      [500, 1],
    ] as const) {
      const pages = await pagesOf(limit);
      assert.equal(pages.length, count);
      const mappings = pages.flatMap((page) => page.pod_identity_mappings);
      assert.deepEqual(mappings, whole.pod_identity_mappings);
      assert.deepEqual(
        pages.flatMap((page) => page.unusable),
        whole.unusable,
      );
      const reports = pages.flatMap((page) => page.pod_identities ?? []);
      assert.deepEqual(usersOf(reports), usersOf(mappings));
      assert.equal(reports[0]?.code, 'mutations_unknown');
      for (const page of pages) {
        const onPage = new Set(usersOf([...page.pod_identity_mappings, ...page.unusable]));
        assert.ok(onPage.size <= limit);
        assert.ok(usersOf(page.pod_identities).every((user) => onPage.has(user)));
      }
    }
  });

  it('continues after a user whose mapping was deleted meanwhile', async () => {
    const { next } = (await ask('?limit=10')).body as Listed;
    const last = { as: 'admin', body: { domino_user: 'svc-009' } };
    assert.equal((await replica.call('DELETE', '/delete_pod_identity_mapping', last)).status, 200);
    const { pod_identity_mappings: rest } = (await ask(`?limit=3&continue=${next}`)).body as Listed;
    assert.deepEqual(usersOf(rest), ['svc-010', 'svc-011', 'svc-012']);
    // Without a limit: the usual hundred.
    assert.equal(((await ask(`?continue=${next}`)).body as Listed).pod_identity_mappings.length, 100);
  });

  it('is for administrators, refuses invalid pages, and accepts a made-up continue token', async () => {
    assert.equal((await ask('?limit=1', 'alice')).status, 403);
    assert.equal((await replica.call('GET', '/pod_identity_mappings?limit=1')).status, 401);
    const long = 'A'.repeat(1025);
    for (const query of [
      'limit=0',
      'limit=501',
      'limit=x',
      'continue=',
      'continue=%00',
      `continue=${long}`,
      'page=2',
    ]) {
      assert.equal((await ask(`?${query}`)).status, 400, query);
    }
    const after = Buffer.from('svc-4').toString('base64url');
    for (const [place, first] of [
      ['AAAA', 'svc-000'],
      [after, 'svc-400'],
      ['_____w', undefined],
    ] as const) {
      const { status, body } = await ask(`?limit=1&continue=${place}`);
      assert.deepEqual([status, usersOf((body as Listed).pod_identity_mappings)[0]], [200, first], place);
    }
  });
});

describe('a replica without EKS_CLUSTER_NAME', () => {
  it('answers Pod Identity calls with pod_identity_disabled, does not call EKS, and grants roles to runs', async () => {
    const world = await startWorld();
    try {
      world.domino.addUser({ name: 'alice', orgs: ['acme'] });
      const replica = await world.startReplica();
      for (const [method, path] of calls) {
        const body = bodyOf(method, path);
        const answer = await replica.call(method, path, { as: 'admin', ...(body === undefined ? {} : { body }) });
        assert.deepEqual([answer.status, (answer.body as { code: string }).code], [404, 'pod_identity_disabled'], path);
      }
      await world.map(replica, 'acme', world.addRolePair('acme'));
      world.startRun(runId(1), 'alice');
      const asked = { as: 'alice', body: { run_id: runId(1) } };
      assert.equal((await replica.call('POST', '/map_iam_roles_to_pod_sa', asked)).status, 200);
      assert.deepEqual(
        Object.keys(world.aws.calls).filter((action) => action.includes('PodIdentity')),
        [],
      );
      assert.ok(![...world.kubernetes.calls.keys()].some((call) => call.includes('mutations')));
    } finally {
      await world.stop();
    }
  });
});

describe('a replica that cannot read Mutations', () => {
  const noSuchKind = new StatusError(404, 'the server could not find the requested resource');
  const reasons: [string, () => boolean][] = [
    ['it lacks the permission', () => false],
    [
      'domsed is not installed',
      () => {
        throw noSuchKind;
      },
    ],
  ];
  for (const [why, may] of reasons) {
    it(`is ready, grants roles to runs, and reports mutations_unknown where ${why}`, async () => {
      const rbac = ({ resource }: { resource: string }) => resource !== 'mutations' || may();
      const world = await startPodIdentityWorld({}, { access: { rbac, user: 'irsa-svc' } });
      try {
        world.domino.addUser({ name: 'alice', orgs: ['acme'] });
        const replica = await world.startReplica();
        assert.equal((await replica.call('GET', '/readyz')).status, 200);
        await world.map(replica, 'acme', world.addRolePair('acme'));
        world.startRun(runId(1), 'alice');
        const asked = { as: 'alice', body: { run_id: runId(1) } };
        assert.equal((await replica.call('POST', '/map_iam_roles_to_pod_sa', asked)).status, 200);
        await world.mapUser(replica, 'alice', world.addPodRole('acme-pod'));
        assert.equal((await world.report(replica, 'alice'))?.code, 'mutations_unknown');
        assert.deepEqual(world.aws.eksWrites, []);
        assert.equal(world.kubernetes.get('mutations', 'domino-platform', mutationName), undefined);
      } finally {
        await world.stop();
      }
    });
  }
});
