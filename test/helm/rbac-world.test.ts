/** Proves that the whole service works with the chart's Roles alone, and that it needs every rule of them. */
import assert from 'node:assert/strict';
import type { AccessRequest } from '../stack/kubernetes-access.ts';
import { until } from '../support/clock.ts';
import { type PodIdentityWorld, startPodIdentityWorld } from '../support/pod-identity.ts';
import { clusterAccount, type Replica, runId } from '../support/world.ts';
import { needsHelm } from './objects.ts';
import { accessFrom, type Rule, userOf } from './rbac.ts';
import { type Rendered, renderChart } from './render.ts';

const user = userOf('domino-field', 'irsa-svc');

/** The rights that the Roles give the service, one by one. */
function rights(objects: readonly Rendered[]): Omit<AccessRequest, 'user' | 'name'>[] {
  return objects
    .filter(
      ({ kind, metadata }) =>
        kind === 'Role' && ['irsa-svc', 'irsa-svc-dry-run-pods', 'irsa-svc-role-tokens'].includes(metadata.name),
    )
    .flatMap(({ rules, metadata }) =>
      (rules as Rule[]).flatMap(({ apiGroups = [], resources = [], verbs }) =>
        resources.flatMap((resource) =>
          verbs.map((verb) => ({ verb, group: apiGroups[0] ?? '', resource, namespace: metadata.namespace ?? '' })),
        ),
      ),
    );
}

describe('the service with the permissions of the chart alone', function () {
  this.timeout(60_000);
  let world: PodIdentityWorld;
  let objects: Rendered[];
  const used = new Set<string>();
  const denied: AccessRequest[] = [];
  const wordsOf = ({ namespace, resource, verb }: Omit<AccessRequest, 'user' | 'group'>) =>
    `${namespace} ${resource} ${verb}`;

  before(async function () {
    needsHelm.call(this);
    const podIdentity = { enabled: true, clusterName: 'acme', dryRunPods: true };
    objects = renderChart({ podIdentity, roleTokens: { enabled: true } });
    const allows = accessFrom(objects);
    const rbac = (request: AccessRequest) => {
      const isAllowed = allows(request);
      if (isAllowed) used.add(wordsOf(request));
      else denied.push(request);
      return isAllowed;
    };
    world = await startPodIdentityWorld({}, { access: { rbac, user } });
  });
  after(() => world?.stop());

  async function admin(replica: Replica, method: 'POST' | 'DELETE' | 'GET', path: string, body?: object) {
    const answer = await replica.call(method, path, { as: 'admin', ...(body ? { body } : {}) });
    assert.equal(answer.status, 200, `${path}: ${answer.text}`);
  }

  it('works without a denied request, and uses every right', async () => {
    const replica = await world.startReplica();
    const pair = world.addRolePair('acme');
    const [proxy = ''] = pair.proxies;
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    await world.map(replica, 'acme', pair);
    await world.map(replica, 'acme', pair, world.addRolePair('acme-2'));

    // A run gets its roles, is revoked, is allowed again, and its trust policy is repaired.
    const run = runId(1);
    const { account } = world.startRun(run, 'alice');
    const ask = () => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal((await ask()).status, 200);
    assert.ok(await world.canAssume(account, proxy));
    await admin(replica, 'POST', '/revoke_run', { run_id: run, reason: 'a test' });
    await admin(replica, 'POST', '/allow_run', { run_id: run });
    assert.equal((await ask()).status, 200);
    const byToken = { iam_role_arn: pair.target, proxy_iam_role_arn: proxy, carrier: 'token' };
    await admin(replica, 'POST', '/update_multirole_mapping', { domino_org: 'other', role_data: [byToken] });
    world.domino.addUser({ name: 'bob', orgs: ['other'] });
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['sts.amazonaws.com', 'irsa/acme'] });
    const { pod } = world.startRun(runId(2), 'bob');
    const tokens = () => replica.call('POST', '/role_tokens', { as: 'bob', body: { run_id: runId(2), pod } });
    await until(async () => (await tokens()).body.tokens?.length === 1, 10_000);
    world.endRun(runId(2));
    await admin(replica, 'DELETE', '/delete_role_mapping', { domino_org: 'other' });
    world.clock.skip(16_000);
    world.aws.setTrust(clusterAccount, 'acme', world.aws.role(clusterAccount, 'acme').history[0]?.text ?? '');
    await admin(replica, 'GET', `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxy)}`);
    await until(() => world.kubernetes.list('events', 'domino-field').length > 0);

    await admin(replica, 'POST', '/service_account', { service_account_name: 'acme-sa' });
    await admin(replica, 'DELETE', '/service_account', { service_account_name: 'acme-sa' });

    // Pod Identity mappings are added and removed.
    world.domino.addUser({ name: 'svc-user-1', orgs: [] });
    world.domino.addUser({ name: 'svc-user-2', orgs: [] });
    await world.mapUser(replica, 'svc-user-1', world.addPodRole('role-1'));
    await world.untilInPlace(replica, 'svc-user-1');
    await world.mapUser(replica, 'svc-user-2', world.addPodRole('role-2'));
    await world.untilInPlace(replica, 'svc-user-2');
    for (const name of ['svc-user-1', 'svc-user-2']) await world.unmapUser(replica, name);
    await until(() => world.userMappings() === undefined && !world.account('svc-user-1-sa'));

    // Mappings and statuses are removed, and the leader releases the lease at the end.
    await admin(replica, 'DELETE', '/delete_role_mapping', { domino_org: 'acme' });
    world.endRun(run);
    const statuses = () =>
      world.kubernetes
        .list<{ metadata: { name: string; annotations?: Record<string, string> } }>('configmaps', 'domino-field')
        .filter(({ metadata }) => metadata.name.startsWith('irsa-trust-'));
    await until(() => statuses().length === 0, 10_000);
    await replica.stop();

    assert.deepEqual(denied, []);
    assert.deepEqual(
      rights(objects)
        .map((right) => wordsOf(right))
        .filter((right) => !used.has(right)),
      [],
      'rights that nothing needs',
    );
  });
});
