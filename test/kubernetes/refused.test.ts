/** Owns the tests of writes that the cluster's admission refuses: the caller gets the reason, not advice to retry. */
import assert from 'node:assert/strict';
import { kindOf, saidBy } from '../../src/kubernetes/error.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { until } from '../support/clock.ts';
import { type Replica, runId, startWorld, type World } from '../support/world.ts';

const quota = 'serviceaccounts "x" is forbidden: exceeded quota: objects, requested: count/serviceaccounts=1';
const policy = `configmaps "x" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no`;
const webhook = 'admission webhook "validate.example.com" denied the request: label missing';
const rbac =
  'configmaps "x" is forbidden: User "system:serviceaccount:field:irsa" cannot patch resource "configmaps" in API group "" in the namespace "field"';

describe('a refusal of the API server', () => {
  it('is distinguished from errors that a retry may resolve', () => {
    const cases: [number, string, string][] = [
      [403, quota, 'refused'],
      [422, policy, 'refused'],
      [403, policy, 'refused'],
      [400, webhook, 'refused'],
      [413, 'Request entity too large: limit is 3145728', 'refused'],
      [
        403,
        'serviceaccounts "x" is forbidden: unable to create new content in namespace a because it is being terminated',
        'refused',
      ],
      [403, rbac, 'unavailable'],
      // From a proxy in between, without a Status.
      [403, '', 'unavailable'],
      [401, 'Unauthorized', 'unavailable'],
      [429, 'Too many requests', 'unavailable'],
      [500, 'Internal error occurred: failed calling webhook "v": context deadline exceeded', 'unavailable'],
      [404, 'namespaces "x" not found', 'not_found'],
      [409, 'exists', 'conflict'],
    ];
    for (const [status, said, kind] of cases) assert.equal(kindOf(status, said, true), kind, `${status} ${said}`);
    assert.equal(kindOf(403, quota, false), 'unavailable', 'admission does not check reads');
  });

  it('is quoted on one line of at most 300 characters', () => {
    assert.equal(saidBy({ message: ' a\n\tb\u2028c\u0007 ' }), 'a b c');
    assert.equal(saidBy({ message: 'x'.repeat(5_000) }).length, 300);
    for (const nothing of [undefined, 'text', {}, { message: 5 }]) assert.equal(saidBy(nothing), '');
  });
});

describe('a write that admission refuses', () => {
  let world: World;
  let replica: Replica;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
    await world.map(replica, 'acme', world.addRolePair('acme-list'));
  });
  afterEach(() => {
    world.kubernetes.knobs.refuseWritesOf = '';
  });
  after(() => world.stop());

  const refuse = (resource: string, refusal: string) =>
    Object.assign(world.kubernetes.knobs, { refuseWritesOf: resource, refusal });
  const admin = (method: 'POST' | 'DELETE', path: string, body: object) =>
    replica.call(method, path, { as: 'admin', body });
  const assertRefused = (answer: Awaited<ReturnType<Replica['call']>>, words: string) => {
    assert.deepEqual([answer.status, answer.body.code], [409, 'kubernetes_refused']);
    assert.ok(answer.body.detail.includes(words), answer.body.detail);
    assert.ok(!answer.body.detail.includes('Try again'));
    assert.equal(answer.headers['retry-after'], undefined);
    const isLogged = replica.log.some(({ level, detail }) => level === 'error' && String(detail).includes(words));
    assert.ok(isLogged, 'the log has the reason');
  };

  it('of a service account is reported to the administrator', async () => {
    const body = { service_account_name: 'svc-user-1-sa' };
    refuse('serviceaccounts', `403 ${quota}`);
    const made = await admin('POST', '/service_account', body);
    assertRefused(made, quota);
    // Which call, on which object.
    assertRefused(made, 'POST /api/v1/namespaces/domino-compute/serviceaccounts/svc-user-1-sa');
    world.kubernetes.knobs.refuseWritesOf = '';
    assert.equal((await admin('POST', '/service_account', body)).status, 200);
    refuse('serviceaccounts', `400 ${webhook}`);
    assertRefused(await admin('DELETE', '/service_account', body), webhook);
  });

  it('of a role request is reported to the user', async () => {
    world.startRun(runId(1), 'alice');
    refuse('serviceaccounts', `422 ${policy}`);
    const body = { run_id: runId(1) };
    assertRefused(await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body }), policy);
  });

  it('of a mapping or a revocation is reported to the administrator', async () => {
    refuse('configmaps', `422 ${policy}`);
    const pair = {
      iam_role_arn: 'arn:aws:iam::222222222222:role/a',
      proxy_iam_role_arn: 'arn:aws:iam::111111111111:role/a',
    };
    assertRefused(await admin('POST', '/update_role_mapping', { domino_org: 'acme', ...pair }), policy);
    assertRefused(await admin('DELETE', '/delete_role_mapping', { domino_org: 'acme' }), policy);
    assertRefused(await admin('POST', '/revoke_run', { run_id: runId(1) }), policy);
    assert.ok(world.kubernetes.get<{ data: object }>('configmaps', 'domino-field', mappingConfigMap)?.data);
  });

  it('by RBAC is answered with 503 kubernetes_unavailable', async () => {
    refuse('serviceaccounts', `403 ${rbac}`);
    const answer = await admin('POST', '/service_account', { service_account_name: 'another-sa' });
    assert.deepEqual([answer.status, answer.body.code], [503, 'kubernetes_unavailable']);
  });

  it('of a trust status is logged as an error with the reason', async () => {
    refuse('configmaps', `403 ${policy}`);
    world.startRun(runId(2), 'alice');
    const body = { run_id: runId(2) };
    const asked = replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body });
    const isTold = ({ level, msg, err }: Record<string, unknown>) =>
      level === 'error' &&
      String(msg).startsWith('the trust status was not published') &&
      JSON.stringify(err).includes('ValidatingAdmissionPolicy');
    await until(() => replica.log.some(isTold));
    world.kubernetes.knobs.refuseWritesOf = '';
    assert.equal((await asked).status, 200);
  });
});
