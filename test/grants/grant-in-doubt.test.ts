/** Proves which answers and roles runs get while others write the same documents, or the state in IAM is unknown. */
import assert from 'node:assert/strict';
import type { V1ConfigMap as ConfigMap, V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { revokedConfigMap } from '../../src/runs/revocations.ts';
import { parseRoleRequest, type RoleRequest } from '../../src/runs/role-request.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('runs while the state in IAM or Kubernetes is in doubt', () => {
  let world: World;
  let replicas: Replica[];
  let next = 7000;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, LEASE_SECONDS: '60', GRANT_TIMEOUT_SECONDS: '3' });
    replicas = await Promise.all([1, 2].map(() => world.startReplica()));
  });
  after(() => world.stop());

  const any = () => replicas[next % replicas.length] as Replica;
  const arnOf = (proxy: string) => `arn:aws:iam::${clusterAccount}:role/${proxy}`;
  const isIn = (proxy: string, account: string) => world.subjects(proxy).includes(`*:domino-compute:${account}`);
  const ask = (user: string, run: string, replica = any()) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run } });
  /** What `/trust_status` reports of the role, after a comparison with IAM. */
  async function compared(proxy: string) {
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(arnOf(proxy))}`;
    return (await any().call('GET', path, { as: 'admin' })).body.proxy_roles[0];
  }
  async function mapped(name: string) {
    const pair = world.addRolePair(name);
    world.domino.addUser({ name: `user-${name}`, orgs: [`org-${name}`] });
    await world.map(any(), `org-${name}`, pair);
    return { user: `user-${name}`, pair };
  }
  async function granted(user: string, options: { account?: string } = {}) {
    const run = runId(next++);
    const { account } = world.startRun(run, user, options);
    const answer = await ask(user, run);
    assert.equal(answer.status, 200, answer.text);
    return { run, account };
  }
  function requestOf(account: string): RoleRequest | undefined {
    const found = world.kubernetes.get<{ metadata: { annotations?: Record<string, string> } }>(
      'serviceaccounts',
      'domino-compute',
      account,
    );
    return parseRoleRequest(found?.metadata.annotations?.[wantedAnnotation]);
  }

  it('invariant 6: a run removed while no status could be written gets no profile from the old status', async () => {
    const field = 'domino-field';
    const { user } = await mapped('come-back');
    const { run, account } = await granted(user);
    const proof = { by: 'a', by_id: 'a', at: new Date(world.clock.now()).toISOString() };
    const without = (name: string, key: string, value?: string) => {
      const found = world.kubernetes.get<ConfigMap>('configmaps', field, name);
      const { [key]: before, ...data } = found?.data ?? {};
      const metadata = { ...found?.metadata, name, namespace: field };
      world.kubernetes.put('configmaps', {
        ...found,
        metadata,
        data: value === undefined ? data : { ...data, [key]: value },
      });
      return before;
    };
    const changes: [take: () => unknown, giveBack: (taken: unknown) => unknown][] = [
      [
        () => without(mappingConfigMap, 'org-come-back'),
        (taken) => without(mappingConfigMap, 'org-come-back', String(taken)),
      ],
      [() => without(revokedConfigMap, run, JSON.stringify(proof)), () => without(revokedConfigMap, run)],
    ];
    for (const [take, giveBack] of changes) {
      world.kubernetes.knobs.refuseWritesOf = 'configmaps';
      world.kubernetes.knobs.refusal = '500 etcd is away';
      const taken = take();
      await until(() => !isIn('come-back', account), 10_000);
      world.aws.knobs.failRate = { UpdateAssumeRolePolicy: { code: 'ServiceFailure', rate: 1 } };
      giveBack(taken);
      try {
        await until(async () => (await ask(user, run)).status === 503);
      } finally {
        world.kubernetes.knobs.refuseWritesOf = '';
        world.aws.knobs.failRate = {};
      }
      await until(async () => (await ask(user, run)).status === 200, 10_000);
      assert.ok(isIn('come-back', account));
    }
  });

  it('two runs that ask different replicas for one service account at the same time both count', async () => {
    const { user } = await mapped('at-once');
    const account = 'at-once-sa';
    const [first, second] = [runId(next++), runId(next++)];
    // The watches show neither replica what the other one wrote, nor the pods, which are seconds old.
    world.kubernetes.knobs.freezeWatches = true;
    for (const run of [first, second]) world.startRun(run, user, { account });
    const asking = [ask(user, first, replicas[0])];
    await until(() => requestOf(account)?.run === first);
    asking.push(ask(user, second, replicas[1]));
    await until(() => requestOf(account)?.run === second);
    world.kubernetes.knobs.freezeWatches = false;
    for (const { status, text } of await Promise.all(asking)) {
      assert.deepEqual([status, text.includes('[profile at-once]')], [200, true]);
    }
    assert.deepEqual(requestOf(account)?.also, [first]);
    // The recorded run ends. A run that ends at the same time shows when the removals are done.
    const witness = await granted(user);
    world.endRun(second);
    world.endRun(witness.run);
    await until(() => !isIn('at-once', witness.account));
    assert.ok(isIn('at-once', account));
    assert.equal((await ask(user, first)).status, 200);
  });

  it('a service account in constant use drops the runs that ended from its request', async () => {
    const { user } = await mapped('busy');
    const account = 'busy-sa';
    await granted(user, { account });
    const known = requestOf(account);
    assert.ok(known);
    const also = Array.from({ length: 300 }, () => runId(next++));
    const stored = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const annotations = { [wantedAnnotation]: JSON.stringify({ ...known, also }) };
    world.kubernetes.put('serviceaccounts', { ...stored, metadata: { ...stored?.metadata, annotations } });
    await granted(user, { account });
    const kept = requestOf(account)?.also ?? [];
    // The live run, and the newest 50, whose pods may be too new for the watch.
    assert.deepEqual(kept.toSorted(), [known.run, ...also.slice(-50)].toSorted());
  });

  it('invariant 6: a run that an external change removed gets a refusal while IAM refuses the repair', async () => {
    const { user } = await mapped('overwritten');
    const { run, account } = await granted(user);
    const { document } = world.aws.role(clusterAccount, 'overwritten');
    // Longer than IAM may show an earlier document.
    world.clock.skip(16_000);
    const text = JSON.stringify(document).replace(`*:domino-compute:${account}`, '');
    world.aws.setTrust(clusterAccount, 'overwritten', JSON.parse(text));
    world.aws.knobs.failRate = { UpdateAssumeRolePolicy: { code: 'AccessDenied', rate: 1 } };
    try {
      assert.equal((await compared('overwritten')).error.code, 'access_denied');
      await until(async () => {
        const { status, text: config } = await ask(user, run);
        assert.equal(status, 200);
        return /^# overwritten: refused, access_denied: /m.test(config) && !config.includes('[profile overwritten]');
      });
      assert.equal(await world.canAssume(account, arnOf('overwritten')), false);
    } finally {
      world.aws.knobs.failRate = {};
    }
    assert.equal((await compared('overwritten')).error, undefined);
    await until(async () => (await ask(user, run)).text.includes('[profile overwritten]'));
    assert.equal(await world.canAssume(account, arnOf('overwritten')), true);
  });

  it('invariant 6: a run that a write without an answer may have removed gets no profile', async () => {
    const { user, pair } = await mapped('unanswered');
    const { run, account } = await granted(user);
    world.aws.knobs.loseAnswerNext = { UpdateAssumeRolePolicy: 1 };
    await any().call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'org-unanswered' } });
    await until(() => world.aws.writes.at(-1)?.outcome === 'answer-lost');
    // Before the leader reads the role again.
    world.aws.knobs.failRate = { GetRole: { code: 'AccessDenied', rate: 1 } };
    try {
      assert.equal(isIn('unanswered', account), false);
      await world.map(any(), 'org-unanswered', pair);
      const answer = await ask(user, run);
      assert.ok(!answer.text.includes('[profile unanswered]'), answer.text);
      assert.equal(isIn('unanswered', account), false);
    } finally {
      world.aws.knobs.failRate = {};
    }
    assert.equal((await compared('unanswered')).error, undefined);
    await until(async () => (await ask(user, run)).text.includes('[profile unanswered]'));
    assert.ok(isIn('unanswered', account));
  });
});
