/** Proves what the chart's admission policies admit and refuse, by requests of the service's own service account. */
import assert from 'node:assert/strict';
import { call } from '../../stack/kubernetes-raw.ts';
import { dominoPod, dominoServiceAccount } from '../../stack/pods.ts';
import { until } from '../../support/clock.ts';
import { runId } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { compute, field, type RealWorld, requestToken, startRealWorld } from './world.ts';

describe("the chart's admission policies on kube-apiserver", function () {
  this.timeout(30 * 60_000);
  let world: RealWorld;
  let bearer: Record<string, string>;

  before(async function () {
    const values = {
      admissionPolicy: { enabled: true },
      podIdentity: { enabled: true, clusterName: 'acme', dryRunPods: true },
      roleTokens: { enabled: true },
    };
    world = await orSkip(this, () => startRealWorld({}, { values }));
    const token = await requestToken(world.cluster, field, 'irsa-svc', 'irsa-svc-1', []);
    bearer = { authorization: `Bearer ${token}` };
    // A pod without its service account is refused before any policy is asked.
    await world.cluster.must('POST', `${compute}/serviceaccounts`, dominoServiceAccount('svc-user-1-sa'));
    await policiesAct();
  });
  after(() => world?.stop());

  /** Waits until the API server applies each policy, which it does a moment later and one by one. */
  async function policiesAct(): Promise<void> {
    const tokens = `${compute}/serviceaccounts/svc-user-1-sa/token`;
    const forRole = { spec: { audiences: ['irsa/acme'], expirationSeconds: 3600 } };
    const asked: Record<string, () => Promise<{ body: { message?: string } }>> = {
      'writes no ConfigMaps but its own': () =>
        asService('POST', `${field}/configmaps?dryRun=All`, { metadata: { name: 'others' } }),
      'create pods as a dry run only': () => asService('POST', `${compute}/pods`, pod(runId(99))),
      'bound to a pod': () => asService('POST', tokens, forRole),
      'are made for irsa-svc alone': () => call(world.cluster.url + tokens, 'POST', forRole),
      'are given by irsa-svc alone': () =>
        call(`${world.cluster.url}${compute}/pods?dryRun=All`, 'POST', projecting('irsa/acme')),
    };
    const { items = [] } = await world.cluster.must('GET', policies);
    assert.equal(items.length, Object.keys(asked).length, 'each policy of the chart is waited for');
    for (const [words, ask] of Object.entries(asked)) {
      await until(async () => (await ask()).body.message?.includes(words) ?? false, 30_000);
    }
  }

  const policies = '/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies';
  const asService = (method: string, path: string, body?: object, headers: Record<string, string> = {}) =>
    call(world.cluster.url + path, method, body, { ...bearer, ...headers });
  const merge = { 'content-type': 'application/merge-patch+json' };
  const pod = (run: string) => {
    const { status: _, ...rest } = dominoPod({
      runId: run,
      userId: 'u',
      userName: 'svc-user-1',
      plain: true,
      serviceAccount: 'svc-user-1-sa',
    });
    return JSON.parse(JSON.stringify(rest)) as object;
  };
  const projecting = (audience: string) => {
    const one = pod(runId(8)) as { spec: { volumes: object[] } };
    const sources = [{ serviceAccountToken: { audience, path: 'token', expirationSeconds: 600 } }];
    const volumes = [...one.spec.volumes, { name: 'own', projected: { sources } }];
    return { ...one, spec: { ...one.spec, volumes } };
  };

  const own = [
    'domino-org-iamrole-mapping',
    'irsa-organization-ids',
    'irsa-revoked-runs',
    'domino-pod-identity-mapping',
    'irsa-trust-0123456789abcdef',
    'irsa-pod-identity-0123456789abcdef',
  ];
  for (const name of own) {
    it(`lets the service write and delete ${name}`, async () => {
      const path = `${field}/configmaps/${name}`;
      const made = await asService('POST', `${field}/configmaps`, { metadata: { name }, data: { a: '1' } });
      assert.ok(made.code === 201 || made.body.reason === 'AlreadyExists', JSON.stringify(made.body));
      assert.equal((await asService('PATCH', path, { data: { a: '2' } }, merge)).code, 200);
      assert.equal((await asService('DELETE', path)).code, 200);
    });
  }

  for (const name of [
    'others',
    'irsa-ca',
    'kube-root-ca.crt',
    'irsa-trust',
    'my-irsa-trust-1',
    'domino-org-iamrole-mapping-2',
  ]) {
    it(`refuses the service’s writes of ${name}, and admits those of others`, async () => {
      const path = `${field}/configmaps/${name}`;
      const refuse = async (method: string, at: string, body?: object, headers?: Record<string, string>) => {
        const answer = await asService(method, at, body, headers);
        assert.equal(answer.code, 422, `${method}: ${JSON.stringify(answer.body)}`);
        assert.match(
          answer.body.message ?? '',
          /ValidatingAdmissionPolicy .*irsa-svc writes no ConfigMaps but its own/,
        );
      };
      await refuse('POST', `${field}/configmaps`, { metadata: { name } });
      await world.cluster.must('POST', `${field}/configmaps`, { metadata: { name } });
      await refuse('PATCH', path, { data: { a: '2' } }, merge);
      await refuse('DELETE', path);
      await world.cluster.must('PATCH', path, { data: { a: '2' } }, merge);
      await world.cluster.must('DELETE', path);
    });
  }

  it('leaves the ConfigMaps of other namespaces to RBAC', async () => {
    const answer = await asService('POST', `${compute}/configmaps`, { metadata: { name: 'others' } });
    assert.equal(answer.code, 403);
    assert.match(answer.body.message ?? '', /cannot create resource "configmaps"/);
  });

  it('lets the service create pods only as a dry run', async () => {
    const dry = await asService('POST', `${compute}/pods?dryRun=All`, pod(runId(1)));
    assert.equal(dry.code, 201, JSON.stringify(dry.body));
    const wet = await asService('POST', `${compute}/pods`, pod(runId(1)));
    assert.equal(wet.code, 422);
    assert.match(wet.body.message ?? '', /irsa-svc may create pods as a dry run only/);
    assert.deepEqual((await world.cluster.must('GET', `${compute}/pods`)).items, []);
    await world.cluster.must('POST', `${compute}/pods`, pod(runId(1)));
  });

  describe('for role tokens', () => {
    let made: { metadata: { name: string; uid: string } };
    const path = `${compute}/serviceaccounts/svc-user-1-sa/token`;
    const asked = (more: object = {}) => {
      const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: made.metadata.name, uid: made.metadata.uid };
      return { spec: { audiences: ['irsa/acme-list-bucket-role'], expirationSeconds: 3600, boundObjectRef, ...more } };
    };
    const refused = async (body: object, code: number, words: RegExp) => {
      const answer = await asService('POST', path, body);
      assert.equal(answer.code, code, JSON.stringify(answer.body));
      assert.match(answer.body.message ?? '', words);
    };

    before(async () => {
      made = (await world.cluster.must('POST', `${compute}/pods`, pod(runId(7)))) as unknown as typeof made;
    });

    it('lets the service create a token for a role, bound to a pod', async () => {
      const { code, body } = await asService('POST', path, asked());
      assert.equal(code, 201, body.message);
      const { token = '' } = (body as { status?: { token?: string } }).status ?? {};
      const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<
        string,
        unknown
      >;
      assert.deepEqual(claims.aud, ['irsa/acme-list-bucket-role']);
      assert.match(String(claims.sub), /^system:serviceaccount:domino-compute:svc-user-1-sa$/);
      assert.equal(typeof claims.jti, 'string');
    });

    it('refuses the service tokens of any other audience, lifetime, binding or service account', async () => {
      await refused(asked({ audiences: ['sts.amazonaws.com'] }), 422, /one audience, of a role/);
      await refused(asked({ audiences: [] }), 422, /one audience, of a role/);
      await refused(asked({ audiences: ['irsa/a', 'sts.amazonaws.com'] }), 422, /one audience, of a role/);
      await refused(asked({ boundObjectRef: undefined }), 422, /bound to a pod/);
      await refused(asked({ expirationSeconds: 86_400 }), 422, /3600 seconds at most/);
      // The API server's own refusal, which the stand-in has too.
      await refused(asked({ expirationSeconds: 300 }), 422, /may not specify a duration less than 10 minutes/);
      const { name, uid } = made.metadata;
      const later = { kind: 'Pod', apiVersion: 'v1', name, uid: uid.replace(/^.{8}/, '00000000') };
      await refused(asked({ boundObjectRef: later }), 409, /does not match the UID in record/);
      await world.cluster.must('POST', `${compute}/serviceaccounts`, dominoServiceAccount('another-sa'));
      const other = await asService('POST', `${compute}/serviceaccounts/another-sa/token`, asked());
      assert.equal(other.code, 400, JSON.stringify(other.body));
      assert.equal((await asService('POST', `${field}/serviceaccounts/irsa-svc/token`, asked())).code, 403);
    });

    it('refuses role tokens to a service account with edit, and to an administrator of the cluster', async () => {
      await world.cluster.must('POST', `${compute}/serviceaccounts`, dominoServiceAccount('editor'));
      // What the role `edit` is made of: a controller gathers it, and none runs here.
      const roleRef = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'system:aggregate-to-edit' };
      const subjects = [{ kind: 'ServiceAccount', name: 'editor', namespace: 'domino-compute' }];
      const bindings = '/apis/rbac.authorization.k8s.io/v1/namespaces/domino-compute/rolebindings';
      await world.cluster.must('POST', bindings, { metadata: { name: 'editor' }, roleRef, subjects });
      const asEditor = { 'impersonate-user': 'system:serviceaccount:domino-compute:editor' };
      const ask = (audiences?: string[]) =>
        call(world.cluster.url + path, 'POST', { spec: { audiences, expirationSeconds: 3600 } }, asEditor);
      // RBAC allows it once the API server has seen the binding, so the refusals that follow are the policy's.
      await until(async () => (await ask(['sts.amazonaws.com'])).code === 201, 30_000);
      assert.equal((await ask()).code, 201);
      for (const audiences of [['irsa/acme-list-bucket-role'], ['sts.amazonaws.com', 'irsa/'], ['irsa/a', 'b']]) {
        const { code, body } = await ask(audiences);
        assert.equal(code, 422, JSON.stringify(body));
        assert.match(body.message ?? '', /are made for irsa-svc alone/);
      }
      // An administrator of the cluster is no exception.
      const { code } = await call(world.cluster.url + path, 'POST', asked());
      assert.equal(code, 422);
    });

    it('refuses a pod of the compute namespace that projects a role token', async () => {
      const create = (audience: string) =>
        world.cluster.must('POST', `${compute}/pods?dryRun=All`, projecting(audience));
      await assert.rejects(create('irsa/acme-list-bucket-role'), /given by irsa-svc alone/);
      await create('sts.amazonaws.com');
    });
  });
});
