/** Tests the changes to pods at their creation on the stand-in: by domsed, then by EKS Pod Identity. */
import assert from 'node:assert/strict';
import { CoreV1Api, CustomObjectsApi, KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { podIdentityTokenFile, podIdentityUri, podWebhooks, withPodIdentity } from './pod-webhooks.ts';
import { dominoPod } from './pods.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const group = 'apps.dominodatalab.com';
const mutations = { group, version: 'v1alpha1', plural: 'mutations', namespace: 'domino-platform' };
const mapping = {
  apiVersion: `${group}/v1alpha1`,
  kind: 'Mutation',
  metadata: { name: 'irsa-pod-identity', namespace: 'domino-platform' },
  rules: [{ cloudWorkloadIdentity: { cloud_type: 'aws', user_mappings: { 'svc-user-1': 'svc-user-1-sa' } } }],
};

describe('Kubernetes stand-in: creation of pods', () => {
  let kubernetes: KubernetesStandIn;
  let core: CoreV1Api;
  let custom: CustomObjectsApi;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    const config = new KubeConfig();
    config.loadFromString(kubernetes.kubeconfig());
    core = config.makeApiClient(CoreV1Api);
    custom = config.makeApiClient(CustomObjectsApi);
    // The API server creates no pod whose service account is missing.
    for (const namespace of ['domino-compute', 'domino-field']) {
      for (const name of [`run-${run}`, 'svc-user-1-sa'])
        kubernetes.put('serviceaccounts', { metadata: { name, namespace } });
    }
  });
  afterEach(() => kubernetes.close());

  const made = (index = 0, namespace = 'domino-compute') =>
    dominoPod({
      runId: run,
      userId: '60faf443e43b3c7a6f5f5eea',
      userName: 'svc-user-1',
      plain: true,
      index,
      namespace,
    });
  const create = (pod: V1Pod) =>
    core.createNamespacedPod({ namespace: pod.metadata?.namespace ?? '', body: structuredClone(pod) });
  const tokenFile = ({ spec }: V1Pod) =>
    spec?.containers.map(
      ({ env }) => env?.find(({ name }) => name === 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE')?.value,
    );

  it('a pod is stored as it was sent where no webhooks are installed', async () => {
    kubernetes.put('mutations', mapping);
    const { spec } = await create(made());
    assert.equal(spec?.serviceAccountName, `run-${run}`);
  });

  it('Mutations of the platform namespace change compute pods, whether created by API or by put', async () => {
    kubernetes.admit(podWebhooks());
    const elsewhere = { ...mapping.metadata, namespace: 'default' };
    kubernetes.put('mutations', { ...mapping, metadata: elsewhere });
    assert.equal((await create(made())).spec?.serviceAccountName, `run-${run}`);
    await custom.createNamespacedCustomObject({ ...mutations, body: mapping });
    assert.equal((await create(made(1))).spec?.serviceAccountName, 'svc-user-1-sa');
    assert.equal(kubernetes.put('pods', made(2)).spec?.serviceAccountName, 'svc-user-1-sa');
    assert.equal((await create(made(3, 'domino-field'))).spec?.serviceAccountName, `run-${run}`);
  });

  it('Mutations do not change a pod that is updated', async () => {
    kubernetes.admit(podWebhooks());
    const pod = await create(made());
    kubernetes.put('mutations', mapping);
    const path = { namespace: 'domino-compute', name: pod.metadata?.name ?? '' };
    const changed = await core.replaceNamespacedPod({ ...path, body: pod });
    assert.equal(changed.spec?.serviceAccountName, `run-${run}`);
    assert.equal(kubernetes.put('pods', made()).spec?.serviceAccountName, `run-${run}`);
  });

  it('a pod gets a Pod Identity token if the service account from domsed has an association at creation', async () => {
    const associated = new Set<string>();
    kubernetes.admit(podWebhooks({ associationOf: (namespace, account) => associated.has(`${namespace}/${account}`) }));
    kubernetes.put('mutations', mapping);
    const early = await create(made());
    associated.add('domino-compute/svc-user-1-sa');
    const late = await create(made(1));
    assert.deepEqual(tokenFile(early), [undefined, undefined]);
    assert.deepEqual(tokenFile(late), [podIdentityTokenFile, podIdentityTokenFile]);
    const inOther = await create(made(2, 'domino-field'));
    assert.deepEqual(tokenFile(inOther), [undefined, undefined]);
  });

  it('a pod gets the role in its service account’s annotation, unless that account has an association', async () => {
    const associated = new Set<string>();
    kubernetes.admit(podWebhooks({ associationOf: (_namespace, account) => associated.has(account) }));
    const annotations = { 'eks.amazonaws.com/role-arn': 'arn:aws:iam::111111111111:role/alice' };
    kubernetes.put('serviceaccounts', { metadata: { name: `run-${run}`, namespace: 'domino-compute', annotations } });
    const roleOf = ({ spec }: V1Pod) =>
      spec?.containers.map(({ env }) => env?.find(({ name }) => name === 'AWS_ROLE_ARN')?.value);
    const [role] = Object.values(annotations);
    const pod = await create(made());
    assert.deepEqual(roleOf(pod), [role, role]);
    assert.equal(pod.spec?.volumes?.[0]?.name, 'aws-iam-token');
    associated.add(`run-${run}`);
    assert.deepEqual(roleOf(await create(made(1))), [undefined, undefined]);
  });

  it('a pod gets a uid and a creation time of its own, whether created by API or by put', async () => {
    kubernetes.admit(podWebhooks({ associationOf: () => true }));
    const sent = { ...made(), metadata: { ...made().metadata, uid: 'mine', creationTimestamp: new Date(0) } };
    const created = kubernetes.get<V1Pod>('pods', 'domino-compute', (await create(sent)).metadata?.name ?? '');
    const put = kubernetes.put('pods', made(1));
    for (const pod of [created, put]) {
      assert.match(pod?.metadata?.uid ?? '', /^[0-9a-f]{8}-/);
      assert.match(String(pod?.metadata?.creationTimestamp), /^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
      assert.ok(Math.abs(Date.parse(String(pod?.metadata?.creationTimestamp)) - Date.now()) < 60_000);
    }
    assert.notEqual(created?.metadata?.uid, put.metadata?.uid);
  });

  it('a dry run answers with the changed pod and stores nothing', async () => {
    kubernetes.admit(podWebhooks());
    kubernetes.put('mutations', mapping);
    const answered = await core.createNamespacedPod({ namespace: 'domino-compute', body: made(), dryRun: 'All' });
    assert.equal(answered.spec?.serviceAccountName, 'svc-user-1-sa');
    assert.deepEqual(kubernetes.list('pods'), []);
  });

  it('a pod is refused with the reason when a Mutation cannot be applied', async () => {
    kubernetes.admit(podWebhooks());
    const rules = [{ insertVolumes: [{ name: 'shared', configMap: { name: 'x' } }] }];
    kubernetes.put('mutations', { ...mapping, rules });
    await assert.rejects(create(made()), /irsa-pod-identity, rules\[0\]: volume shared is there already/);
    assert.throws(() => kubernetes.put('pods', made()), /volume shared is there already/);
    assert.deepEqual(kubernetes.list('pods'), []);
  });

  it('an invalid Mutation is refused when it is created, replaced or patched', async () => {
    const wrong = { ...mapping, rules: [{ cloudWorkloadIdentity: { cloud_type: 'aws', userMappings: {} } }] };
    const refused = async (call: Promise<unknown>) =>
      assert.rejects(call, ({ code, body }: { code: number; body: unknown }) => {
        assert.equal(code, 422);
        assert.match(
          typeof body === 'string' ? body : JSON.stringify(body),
          /userMappings: Invalid value: unknown field/,
        );
        return true;
      });
    await refused(custom.createNamespacedCustomObject({ ...mutations, body: wrong }));
    const stored = await custom.createNamespacedCustomObject({ ...mutations, body: mapping });
    const one = { ...mutations, name: 'irsa-pod-identity' };
    await refused(custom.replaceNamespacedCustomObject({ ...one, body: { ...stored, rules: wrong.rules } }));
    const path = '/rules/0/cloudWorkloadIdentity/userMappings';
    await refused(custom.patchNamespacedCustomObject({ ...one, body: [{ op: 'add', path, value: {} }] }));
    assert.deepEqual(kubernetes.get<typeof mapping>('mutations', 'domino-platform', one.name)?.rules, mapping.rules);
  });
});

describe("EKS's Pod Identity webhook", () => {
  const given = dominoPod({ runId: run, userId: '60faf443e43b3c7a6f5f5eea', userName: 'alice' });
  const all = ({ spec }: V1Pod) => [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];

  it('adds the variables and the token to every container, and keeps what it has', () => {
    const pod = withPodIdentity(given);
    const token = { audience: 'pods.eks.amazonaws.com', expirationSeconds: 86_400, path: 'eks-pod-identity-token' };
    const volume = { name: 'eks-pod-identity-token', projected: { sources: [{ serviceAccountToken: token }] } };
    assert.deepEqual(pod.spec?.volumes, [...(given.spec?.volumes ?? []), volume]);
    for (const [index, container] of all(pod).entries()) {
      const before = all(given)[index];
      assert.deepEqual(container.env, [
        ...(before?.env ?? []),
        { name: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: podIdentityUri },
        { name: 'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE', value: podIdentityTokenFile },
      ]);
      const mount = { name: volume.name, mountPath: '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount' };
      assert.deepEqual(container.volumeMounts, [...(before?.volumeMounts ?? []), { ...mount, readOnly: true }]);
    }
  });

  it('changes nothing the second time, nor a container that sets such a variable itself', () => {
    const once = withPodIdentity(given);
    assert.deepEqual(withPodIdentity(once), once);
    const own = structuredClone(given);
    const mine = { name: 'AWS_CONTAINER_CREDENTIALS_FULL_URI', value: 'http://127.0.0.1:1' };
    own.spec?.containers[0]?.env?.push(mine);
    const [first, second] = withPodIdentity(own).spec?.containers ?? [];
    assert.deepEqual(first, own.spec?.containers[0]);
    assert.equal(second?.env?.at(-1)?.value, podIdentityTokenFile);
  });
});
