/** Owns the test of many simultaneous changes of one ConfigMap: each takes effect, and none is refused. */
import assert from 'node:assert/strict';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { revokedConfigMap } from '../../src/runs/revocations.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('120 simultaneous changes at two replicas', () => {
  let world: World;
  let replicas: Replica[];

  before(async () => {
    world = await startWorld({ LEASE_SECONDS: '15' });
    replicas = await Promise.all([world.startReplica(), world.startReplica()]);
  });
  after(() => world.stop());

  const many = Array.from({ length: 120 }, (_, index) => index);
  const stored = (name: string) =>
    Object.keys(world.kubernetes.get<{ data: object }>('configmaps', 'domino-field', name)?.data ?? {}).length;
  const call = (index: number, path: string, body: object) =>
    (replicas[index % 2] as Replica).call('POST', path, { as: 'admin', body });
  const role = (account: string, index: number) => `arn:aws:iam::${account}:role/acme-${index}`;

  it('of mappings all take effect', async function () {
    this.timeout(60_000);
    const answers = await Promise.all(
      many.map((index) =>
        call(index, '/update_role_mapping', {
          domino_org: `acme-${index}`,
          iam_role_arn: role(assetAccount, index),
          proxy_iam_role_arn: role(clusterAccount, index),
        }),
      ),
    );
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
    assert.equal(stored(mappingConfigMap), 120);
  });

  it('of revocations all take effect', async function () {
    this.timeout(60_000);
    world.domino.addUser({ name: 'alice', orgs: [] });
    for (const index of many) world.startRun(runId(256 + index), 'alice');
    const answers = await Promise.all(many.map((index) => call(index, '/revoke_run', { run_id: runId(256 + index) })));
    assert.deepEqual([...new Set(answers.map(({ status }) => status))], [200]);
    assert.equal(stored(revokedConfigMap), 120);
  });

  it('leave the ConfigMap with Helm’s annotation "keep", whether the service created it or found it', async () => {
    // After `kubectl delete` the service creates it again, and no manifest then says that Helm is to keep it.
    const found = () =>
      world.kubernetes.get<{ metadata: { annotations?: object } }>('configmaps', 'domino-field', mappingConfigMap);
    const kept = { 'helm.sh/resource-policy': 'keep' };
    assert.deepEqual(found()?.metadata.annotations, kept);
    const { data } = world.kubernetes.get<{ data: object }>('configmaps', 'domino-field', mappingConfigMap) ?? {};
    const metadata = { name: mappingConfigMap, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { apiVersion: 'v1', kind: 'ConfigMap', metadata, data });
    const role_data = { iam_role_arn: role(assetAccount, 500), proxy_iam_role_arn: role(clusterAccount, 500) };
    const answer = await call(0, '/update_role_mapping', { domino_org: 'acme-500', ...role_data });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(found()?.metadata.annotations, kept);
  });
});
