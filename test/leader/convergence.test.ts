import assert from 'node:assert/strict';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { compareAnnotation, releaseAnnotation, statusName, type TrustStatus } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, emptyLists, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Meta {
  metadata: { name: string; uid?: string; annotations?: Record<string, string> };
  data?: Record<string, string>;
  involvedObject?: { kind: string; name: string; namespace: string; uid: string };
  reason?: string;
  message?: string;
}

describe('convergence of trust policies and statuses', () => {
  let world: World;
  let replica: Replica;
  let next = 9000;

  before(async () => {
    world = await startWorld({ IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100', LEASE_SECONDS: '60' });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const arnOf = (proxy: string) => `arn:aws:iam::${clusterAccount}:role/${proxy}`;
  const subject = (account: string) => `*:domino-compute:${account}`;
  const statusMap = (proxy: string) =>
    world.kubernetes.get<Meta>('configmaps', 'domino-field', statusName(arnOf(proxy)));
  const status = (proxy: string) => JSON.parse(statusMap(proxy)?.data?.['status.json'] ?? '{}') as Partial<TrustStatus>;
  function annotate(proxy: string, annotations: Record<string, string>) {
    const map = statusMap(proxy);
    assert.ok(map);
    world.kubernetes.put('configmaps', { ...map, metadata: { ...map.metadata, annotations } });
  }
  async function mapped(name: string) {
    const pair = world.addRolePair(name);
    world.domino.addUser({ name: `user-${name}`, orgs: [`org-${name}`] });
    await world.map(replica, `org-${name}`, pair);
    return `user-${name}`;
  }
  async function grant(user: string, options: { account?: string } = {}) {
    const run = runId(next++);
    const { account } = world.startRun(run, user, options);
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    assert.equal(answer.status, 200, answer.text);
    return { run, account };
  }
  /** As Terraform leaves it after an apply. */
  function overwrite(proxy: string) {
    const { issuer } = world.issuer;
    const document = world.aws.role(clusterAccount, proxy).document as { Statement: Record<string, unknown>[] };
    const [first] = document.Statement;
    const Condition = { StringLike: { [`${issuer}:aud`]: 'sts.amazonaws.com', [`${issuer}:sub`]: '' } };
    world.aws.setTrust(clusterAccount, proxy, { ...document, Statement: [{ ...first, Condition }] });
  }

  it('a trust policy that Terraform overwrote is repaired, logged, counted and reported in an Event', async () => {
    const user = await mapped('repaired');
    const { account } = await grant(user);
    // Longer than IAM may show an earlier document, and shorter than the lease.
    world.clock.skip(16_000);
    overwrite('repaired');
    annotate('repaired', { [compareAnnotation]: 'look-1' });
    await until(
      () => world.subjects('repaired').includes(subject(account)) && status('repaired').compare_id === 'look-1',
    );
    assert.deepEqual(status('repaired').drift?.missing, [subject(account)]);
    assert.equal(status('repaired').drift?.count, 1);
    const line = replica.log.findLast(({ msg }) => msg === 'the trust policy was changed externally');
    assert.equal(line?.level, 'warn');
    assert.deepEqual(line?.missing, [subject(account)]);
    const text = await replica.metrics.registry.metrics();
    assert.match(text, /irsa_trust_policy_drift_total\{role="[^"]*\/repaired"\} 1/);
    const changed = () =>
      world.kubernetes.list<Meta>('events', 'domino-field').find(({ reason }) => reason === 'TrustPolicyChanged');
    await until(() => changed() !== undefined);
    // `kubectl describe` asks for the Events of just this name, namespace, kind and uid.
    const about = changed()?.involvedObject;
    const { uid } = world.kubernetes.get<Meta>('configmaps', 'domino-field', about?.name ?? '')?.metadata ?? {};
    assert.ok(uid);
    assert.deepEqual([about?.uid, about?.namespace, about?.kind], [uid, 'domino-field', 'ConfigMap']);
  });

  it('comparisons of one role do not repeat the failed comparison of another', async () => {
    const [user] = [await mapped('refused'), await mapped('compared')];
    await grant(user);
    const ask = async (proxy: string) => {
      const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(arnOf(proxy))}`;
      const answer = await replica.call('GET', path, { as: 'admin' });
      return answer.body.proxy_roles.find(
        (one: { proxy_iam_role_arn: string }) => one.proxy_iam_role_arn === arnOf(proxy),
      );
    };
    world.aws.removeRole(clusterAccount, 'refused');
    assert.equal((await ask('refused')).error.code, 'role_not_found');
    const reads = () => world.aws.calls.GetRole ?? 0;
    const before = reads();
    for (let times = 0; times < 10; times += 1) await ask('compared');
    assert.ok(reads() - before <= 11, `${reads() - before} readings for 10 comparisons`);
  });

  it('a subject that an external change added is removed', async () => {
    const user = await mapped('intruded');
    const { account } = await grant(user);
    const { issuer } = world.issuer;
    const text = JSON.stringify(world.aws.role(clusterAccount, 'intruded').document);
    const intruder = subject(`run-${runId(next++)}`);
    world.aws.setTrust(
      clusterAccount,
      'intruded',
      JSON.parse(text.replace(subject(account), `${subject(account)}","${intruder}`)),
    );
    assert.equal(world.subjects('intruded').length, 2, issuer);
    annotate('intruded', { [compareAnnotation]: 'look-1' });
    await until(() => !world.subjects('intruded').includes(intruder));
    await until(() => status('intruded').drift?.extra.length === 1);
    assert.deepEqual(world.subjects('intruded'), [subject(account)]);
  });

  it('service accounts that join a run later get its roles without a request', async () => {
    const user = await mapped('late');
    const { run, account } = await grant(user);
    world.startRun(run, user, { account: `ray-${run}-ray` });
    await until(() => world.subjects('late').includes(subject(`ray-${run}-ray`)));
    // Except where another user started the pods.
    world.domino.addUser({ name: 'mallory', orgs: [] });
    world.startRun(run, 'mallory', { account: 'mallory-sa' });
    const { account: witness } = await grant(user);
    assert.deepEqual(new Set(world.subjects('late')), new Set([account, `ray-${run}-ray`, witness].map(subject)));
    assert.equal(
      world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', 'mallory-sa')?.metadata.annotations?.[
        wantedAnnotation
      ],
      undefined,
    );
  });

  it('concurrent requests for one service account all get the role, from one run or several', async () => {
    const user = await mapped('crowded');
    const runs = Array.from({ length: 8 }, () => runId(next++));
    for (const run of runs) world.startRun(run, user, { account: 'crowded-sa' });
    const ask = (run: string | undefined) =>
      replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    const answers = await Promise.all([...runs, ...runs.map(() => runs[0])].map(ask));
    for (const { status, text } of answers) assert.deepEqual([status, text.includes('[profile crowded]')], [200, true]);
    const { also = [], run } = JSON.parse(
      world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', 'crowded-sa')?.metadata.annotations?.[
        wantedAnnotation
      ] ?? '',
    );
    // The recorded runs are among those that asked.
    assert.ok(runs.includes(run));
    for (const one of also) assert.ok(runs.includes(one));
  });

  it('service accounts that go to runs without a request are removed, even more than ten at once', async () => {
    const user = await mapped('handed-on');
    const names = Array.from({ length: 12 }, (_, index) => `handed-on-sa-${index}`);
    const grants = await Promise.all(names.map((account) => grant(user, { account })));
    assert.equal(world.subjects('handed-on').length, 12);
    for (const account of names) world.startRun(runId(next++), user, { account });
    for (const { run } of grants) world.endRun(run);
    await until(() => !world.subjects('handed-on').some((one) => one !== 'irsa-svc:no-live-runs'));
    // The removal guard would hold them for as long as the runs without a request are live.
    assert.equal(status('handed-on').brake, undefined);
  });

  it('a status that was deleted or edited is written again', async () => {
    const user = await mapped('published');
    const { run } = await grant(user);
    const ask = () => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    world.kubernetes.remove('configmaps', 'domino-field', statusName(arnOf('published')));
    await until(() => Object.keys(status('published').members ?? {}).length === 1);
    const forged = { ...status('published'), members: {} };
    world.kubernetes.put('configmaps', { ...statusMap('published'), data: { 'status.json': JSON.stringify(forged) } });
    await until(() => Object.keys(status('published').members ?? {}).length === 1);
    assert.equal((await ask()).status, 200);
  });

  it('a run keeps the role it has while IAM denies access, and gets a refusal for a new one', async () => {
    const user = await mapped('denied');
    const { run } = await grant(user);
    const more = world.addRolePair('denied-2');
    const first = { target: 'arn:aws:iam::222222222222:role/denied', proxies: [arnOf('denied')] };
    world.aws.knobs.failRate = { GetRole: { code: 'AccessDenied', rate: 1 } };
    try {
      await world.map(replica, 'org-denied', first, more);
      const body = { run_id: run };
      const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body });
      assert.equal(answer.status, 200, answer.text);
      assert.match(answer.text, /^\[profile denied\]$/m);
      assert.match(answer.text, /^# denied-2: refused, access_denied: /m);
    } finally {
      world.aws.knobs.failRate = {};
    }
  });

  it('a member that lost its annotation is removed, and not kept as one that an earlier release added', async () => {
    const user = await mapped('stripped');
    const { account } = await grant(user, { account: 'stripped-sa' });
    const { metadata } = world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', account) as Meta;
    world.kubernetes.put('serviceaccounts', { metadata: { ...metadata, annotations: {} } });
    await until(() => !world.subjects('stripped').includes(subject(account)));
  });

  it('a deleted service account is removed at once', async () => {
    const user = await mapped('deleted');
    const { account } = await grant(user);
    const start = performance.now();
    world.kubernetes.remove('serviceaccounts', 'domino-compute', account);
    await until(() => !world.subjects('deleted').includes(subject(account)));
    assert.ok(performance.now() - start < 1_900, 'the removal waited to be collected with others');
  });

  it('requests of ended runs are cleared from service accounts that outlive them', async () => {
    await replica.stop();
    replica = await world.startReplica({ RESYNC_SECONDS: '10', LEASE_SECONDS: '3' });
    const user = await mapped('static');
    await until(async () => (await replica.metrics.registry.metrics()).includes('irsa_lease_held 1'), 15_000);
    const { run } = await grant(user, { account: 'static-sa' });
    world.kubernetes.put('serviceaccounts', {
      ...world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', 'static-sa'),
    });
    world.endRun(run);
    world.clock.skip(90_000);
    const wanted = () =>
      world.kubernetes.get<Meta>('serviceaccounts', 'domino-compute', 'static-sa')?.metadata.annotations?.[
        wantedAnnotation
      ];
    await until(() => wanted() === '{"cleared":true}', 15_000);
    assert.ok(!world.subjects('static').includes(subject('static-sa')));
  }).timeout(40_000);

  it('invariant 3: mappings that a list lacks by mistake still count, even in a replica that starts then', async () => {
    const user = await mapped('listed');
    const { run, account } = await grant(user);
    await emptyLists(world, ['configmaps']);
    const other = await world.startReplica();
    world.kubernetes.knobs.emptyLists = false;
    for (const one of [replica, other]) {
      const mine = await one.call('GET', '/my_role_mappings', { as: user });
      assert.equal(mine.body.my_role_mappings.length, 1);
    }
    world.kubernetes.expire();
    world.kubernetes.cutWatches();
    await until(async () => {
      const answer = await other.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
      return answer.text.includes('[profile listed]');
    });
    assert.ok(world.subjects('listed').includes(subject(account)));
    await other.stop();
  });

  it('invariant 3: after lists that were empty by mistake, a new pod causes no removal of others', async () => {
    const user = await mapped('few');
    const grants = await Promise.all(Array.from({ length: 3 }, () => grant(user)));
    await emptyLists(world, ['pods', 'serviceaccounts']);
    const run = runId(next++);
    const { account: witness } = world.startRun(run, user);
    const ask = () => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
    world.kubernetes.knobs.emptyLists = false;
    await until(async () => (await ask()).text.includes('[profile few]'), 20_000);
    const written = world.aws.role(clusterAccount, 'few').history.map(({ document }) => JSON.stringify(document));
    const [last = ''] = written.slice(-1);
    assert.ok(last.includes(subject(witness)));
    const complete = written.findIndex((one) => grants.every(({ account }) => one.includes(subject(account))));
    for (const one of written.slice(complete)) {
      for (const { account } of grants) assert.ok(one.includes(subject(account)), `${account} was removed`);
    }
  }).timeout(60_000);

  it('invariant 3: holds members while the API server lists nothing, until an administrator confirms', async () => {
    const user = await mapped('brake');
    const grants = await Promise.all(Array.from({ length: 12 }, () => grant(user)));
    world.kubernetes.knobs.emptyLists = true;
    world.kubernetes.expire();
    world.kubernetes.cutWatches();
    await until(() => status('brake').brake !== undefined, 20_000);
    assert.equal(status('brake').brake?.held.length, 12);
    for (const { account } of grants) assert.ok(world.subjects('brake').includes(subject(account)));
    const gauge = () => replica.metrics.registry.getSingleMetric('irsa_brake_held_members')?.get();
    await until(async () => (await gauge())?.values.some(({ value }) => value === 12) ?? false);
    annotate('brake', { [releaseAnnotation]: new Date(world.clock.now()).toISOString() });
    await until(() => world.subjects('brake').length === 1, 10_000);
    world.kubernetes.knobs.emptyLists = false;
    // The members return by themselves: an empty list is read again, without a cut or expired watch.
    await until(() => grants.every(({ account }) => world.subjects('brake').includes(subject(account))), 30_000);
  }).timeout(80_000);
});

describe('a replica that starts', () => {
  let world: World;
  after(() => world.stop());

  it('invariant 3: is not ready and does not become the leader before its caches are filled', async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    world.kubernetes.knobs.podListLatencyMs = 1_000;
    const starting = world.startReplica();
    await until(() => world.replicas.length === 1);
    const [early] = world.replicas as [Replica];
    await until(() => world.kubernetes.calls.get('watch serviceaccounts') === 1);
    assert.equal((await early.call('GET', '/readyz')).status, 503);
    const answer = await early.call('GET', '/my_role_mappings', { as: 'alice' });
    assert.equal(answer.status, 503);
    assert.equal(answer.body.code, 'kubernetes_unavailable');
    assert.equal(world.kubernetes.calls.get('create leases'), undefined);
    const replica = await starting;
    assert.equal((await replica.call('GET', '/my_role_mappings', { as: 'alice' })).status, 200);
    await until(() => world.kubernetes.calls.get('create leases') === 1);
  });
});
