/** Proves that the next leader finds a write that the dead leader did not report, whatever the mappings are. */
import assert from 'node:assert/strict';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { compareAnnotation, statusName, type TrustStatus, trustStatusForm } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, runId, startWorld, type World } from '../support/world.ts';

describe('a write that the dead leader did not report', () => {
  let world: World;

  beforeEach(async () => {
    world = await startWorld({ LEASE_SECONDS: '60' });
  });
  afterEach(() => world.stop());

  const published = (proxy: string) =>
    world.kubernetes.get<{ metadata: object }>('configmaps', 'domino-field', statusName(proxy));

  function putStatus(proxy: string, more: Partial<TrustStatus>) {
    const empty = { role_arn: proxy, members: {}, refused: [], characters_used: 0, characters_allowed: 2048 };
    const labels = { [trustStatusForm.label]: 'true' };
    const metadata = { name: statusName(proxy), namespace: 'domino-field', labels };
    world.kubernetes.put('configmaps', { metadata, data: trustStatusForm.data({ ...empty, ...more }) });
  }
  /** Whether no document had been written yet when a status first said that this is a proxy role. */
  function firstAnnounced(proxy: string): () => boolean | undefined {
    let isFirst: boolean | undefined;
    world.kubernetes.onChange('configmaps', (_type, object) => {
      const { data, metadata } = object as { data?: Record<string, string>; metadata?: { name?: string } };
      if (metadata?.name !== statusName(proxy) || !trustStatusForm.parse(data ?? {})?.proxy) return;
      isFirst ??= world.aws.calls.UpdateAssumeRolePolicy === undefined;
    });
    return () => isFirst;
  }

  it('to a role whose mapping is gone too: the next leader removes the members, then forgets the role', async () => {
    const { proxies } = world.addRolePair('acme-left-behind');
    const [proxy = ''] = proxies;
    const subject = `*:domino-compute:run-${runId(1)}`;
    const { document } = world.aws.role(clusterAccount, 'acme-left-behind');
    const text = JSON.stringify(document).replace(':sub":""', `:sub":["${subject}"]`);
    world.aws.setTrust(clusterAccount, 'acme-left-behind', JSON.parse(text));
    assert.deepEqual(world.subjects('acme-left-behind'), [subject]);
    putStatus(proxy, { proxy: true });
    await world.startReplica();
    await until(() => !world.subjects('acme-left-behind').includes(subject));
    // Longer than IAM may show an earlier document; then one more comparison is enough.
    assert.ok(published(proxy));
    world.clock.skip(16_000);
    const shown = published(proxy);
    const annotations = { [compareAnnotation]: 'look-1' };
    world.kubernetes.put('configmaps', { ...shown, metadata: { ...shown?.metadata, annotations } });
    await until(() => published(proxy) === undefined);
  });

  it('to a role that was never written: the leader publishes the role before it first writes it', async () => {
    const replica = await world.startReplica();
    const pair = world.addRolePair('acme-new');
    const [proxy = ''] = pair.proxies;
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    const run = runId(2);
    world.startRun(run, 'alice');
    const isFirst = firstAnnounced(proxy);
    await world.map(replica, 'acme', pair);
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal(answer.status, 200);
    assert.equal(isFirst(), true);
  });

  it('to a role that was not published as a proxy role: the leader publishes it as one first', async () => {
    const pair = world.addRolePair('acme-changed');
    const [proxy = ''] = pair.proxies;
    putStatus(proxy, {});
    const mapping = JSON.stringify([{ iam_role_arn: pair.target, proxy_iam_role_arn: proxy }]);
    const metadata = { name: mappingConfigMap, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { metadata, data: { acme: mapping } });
    const isFirst = firstAnnounced(proxy);
    await world.startReplica();
    await until(() => world.aws.calls.GetRole !== undefined);
    assert.equal(isFirst(), true);
  });
});
