/** Tests the Kubernetes stand-in's verbs: get, list, create, update, patch, delete, and their refusals. */
import assert from 'node:assert/strict';
import {
  ApiException,
  CoordinationV1Api,
  CoreV1Api,
  CustomObjectsApi,
  KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  V1MicroTime,
} from '@kubernetes/client-node';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { call } from './kubernetes-raw.ts';
import { dominoPod, dominoServiceAccount } from './pods.ts';

const namespace = 'field';
const name = 'one';

/** Expects a refusal with this code and reason, and returns its Status. */
async function refused(promise: Promise<unknown>, code: number, reason: string): Promise<Record<string, unknown>> {
  const error = await promise.then(
    () => assert.fail(`expected ${code} ${reason}`),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof ApiException, String(error));
  const status = (typeof error.body === 'string' ? JSON.parse(error.body) : error.body) as Record<string, unknown>;
  assert.deepEqual([error.code, status.reason, status.kind], [code, reason, 'Status']);
  return status;
}

describe('the Kubernetes stand-in', () => {
  let kubernetes: KubernetesStandIn;
  let config: KubeConfig;
  let core: CoreV1Api;
  let maps: string;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    config = new KubeConfig();
    config.loadFromString(kubernetes.kubeconfig());
    core = config.makeApiClient(CoreV1Api);
    maps = `${kubernetes.url}/api/v1/namespaces/${namespace}/configmaps`;
  });

  afterEach(() => kubernetes.close());

  const make = (x: string, as = name) =>
    core.createNamespacedConfigMap({ namespace, body: { metadata: { name: as }, data: { x } } });
  const patch = (body: unknown, strategy: string, as = name) =>
    core.patchNamespacedConfigMap({ namespace, name: as, body }, setHeaderOptions('Content-Type', strategy));

  describe('create', () => {
    it('sets a uid and a creation time, and answers with the object that it stores', async () => {
      const made = await make('1');
      assert.match(made.metadata?.uid ?? '', /^[0-9a-f-]{36}$/);
      assert.ok(made.metadata?.creationTimestamp instanceof Date);
      assert.deepEqual(await core.readNamespacedConfigMap({ namespace, name }), made);
    });

    it('refuses a name that is taken', async () => {
      await make('1');
      await refused(make('2'), 409, 'AlreadyExists');
    });

    it('makes a name from generateName', async () => {
      const body = { metadata: { generateName: 'made-' } };
      const made = await core.createNamespacedConfigMap({ namespace, body });
      assert.match(made.metadata?.name ?? '', /^made-[a-z0-9]{5}$/);
    });

    it('refuses invalid names, labels, keys and values', async () => {
      await refused(make('1', 'Not_A_Name'), 422, 'Invalid');
      await refused(make('1', ''), 422, 'Invalid');
      const create = (body: object) => call(maps, 'POST', { metadata: { name }, ...body });
      assert.equal((await create({ metadata: { name, labels: { a: 'x y' } } })).code, 422);
      assert.equal((await create({ data: { 'an org': '1' } })).code, 422);
      assert.equal((await create({ data: { a: 1 } })).code, 400);
      assert.equal((await create({ kind: 'Pod', apiVersion: 'v1' })).code, 400);
      assert.equal((await create({ metadata: { name, namespace: 'other' } })).code, 400);
      assert.equal((await create({ metadata: { name, resourceVersion: '1' } })).code, 500);
    });

    it('refuses a ConfigMap over 1 MiB, an annotation set over 256 KiB, and a body over 3 MiB', async () => {
      const status = await refused(make('x'.repeat(1024 * 1024 + 1)), 422, 'Invalid');
      assert.match(String(status.message), /Too long: may not be more than 1048576 bytes/);
      await make('x'.repeat(1024 * 1024));
      const annotations = { wanted: 'x'.repeat(256 * 1024) };
      const noted = core.createNamespacedServiceAccount({ namespace, body: { metadata: { name, annotations } } });
      await refused(noted, 422, 'Invalid');
      assert.equal((await call(maps, 'POST', { data: { x: 'x'.repeat(3 * 1024 * 1024) } })).code, 413);
    });

    it('stores nothing in a dry run', async () => {
      await core.createNamespacedConfigMap({ namespace, body: { metadata: { name } }, dryRun: 'All' });
      assert.equal(kubernetes.get('configmaps', namespace, name), undefined);
    });
  });

  describe('list', () => {
    beforeEach(() => {
      kubernetes.put('pods', { metadata: { name: 'a', namespace: 'n1', labels: { app: 'x', tier: 'web' } } });
      kubernetes.put('pods', {
        metadata: { name: 'b', namespace: 'n1', labels: { app: 'y' } },
        spec: { nodeName: 'k' },
      });
      kubernetes.put('pods', { metadata: { name: 'c', namespace: 'n2' }, status: { phase: 'Running' } });
    });

    const names = async (query: object) =>
      (await core.listPodForAllNamespaces(query)).items.map((pod) => pod.metadata?.name).join('');

    it('returns the objects of one namespace or of all namespaces, in order', async () => {
      assert.equal(await names({}), 'abc');
      assert.equal((await core.listNamespacedPod({ namespace: 'n1' })).items.length, 2);
      assert.deepEqual((await core.listNamespacedPod({ namespace: 'none' })).items, []);
    });

    it('selects by label', async () => {
      const cases: [string, string][] = [
        ['app=x', 'a'],
        ['app==x', 'a'],
        ['app!=x', 'bc'],
        ['app in (x, y),tier', 'a'],
        ['app notin (x)', 'bc'],
        ['app', 'ab'],
        ['!app', 'c'],
        ['app,!tier', 'b'],
      ];
      for (const [labelSelector, expected] of cases) {
        assert.equal(await names({ labelSelector }), expected, labelSelector);
      }
      await refused(names({ labelSelector: 'app in x' }), 400, 'BadRequest');
    });

    it('selects by field', async () => {
      const cases: [string, string][] = [
        ['metadata.name=b', 'b'],
        ['metadata.namespace!=n1', 'c'],
        ['status.phase=Running', 'c'],
        ['status.phase!=Running,spec.nodeName=k', 'b'],
        ['spec.serviceAccountName=default', 'abc'],
        ['spec.nodeName=', 'ac'],
      ];
      for (const [fieldSelector, expected] of cases) {
        assert.equal(await names({ fieldSelector }), expected, fieldSelector);
      }
      await refused(names({ fieldSelector: 'spec.color=red' }), 400, 'BadRequest');
    });

    it('returns all pages from one snapshot, and 410 once the snapshot has expired', async () => {
      const first = await core.listPodForAllNamespaces({ limit: 2 });
      assert.equal(first.metadata?.remainingItemCount, 1);
      kubernetes.remove('pods', 'n2', 'c');
      kubernetes.put('pods', { metadata: { name: 'd', namespace: 'n2' } });
      const rest = await core.listPodForAllNamespaces({ limit: 2, _continue: first.metadata?._continue ?? '' });
      assert.deepEqual(
        rest.items.map((pod) => pod.metadata?.name),
        ['c'],
      );
      assert.equal(rest.metadata?._continue, undefined);
      assert.equal(rest.metadata?.resourceVersion, first.metadata?.resourceVersion);
      kubernetes.expire();
      const late = core.listPodForAllNamespaces({ limit: 2, _continue: first.metadata?._continue ?? '' });
      await refused(late, 410, 'Expired');
    });

    it('omits kind and apiVersion on the items of a built-in list, and keeps kind on custom resources', async () => {
      const { body } = await call(`${kubernetes.url}/api/v1/pods?limit=1`);
      assert.equal(body.kind, 'PodList');
      assert.deepEqual([body.items?.[0]?.kind, body.items?.[0]?.apiVersion], [undefined, undefined]);
      kubernetes.put('mutations', { metadata: { name: 'm' }, rules: [] });
      const group = 'apps.dominodatalab.com';
      const custom = config.makeApiClient(CustomObjectsApi);
      const path = { group, version: 'v1alpha1', namespace: 'default', plural: 'mutations' };
      const { items } = (await custom.listNamespacedCustomObject(path)) as { items: { kind: string }[] };
      assert.equal(items[0]?.kind, 'Mutation');
    });
  });

  describe('update', () => {
    it('replaces an object, and refuses a stale resourceVersion', async () => {
      const made = await make('1');
      const body = { ...made, data: { x: '2' } };
      const second = await core.replaceNamespacedConfigMap({ namespace, name, body });
      assert.notEqual(second.metadata?.resourceVersion, made.metadata?.resourceVersion);
      assert.equal(second.metadata?.uid, made.metadata?.uid);
      await refused(core.replaceNamespacedConfigMap({ namespace, name, body }), 409, 'Conflict');
      await core.replaceNamespacedConfigMap({ namespace, name, body: { metadata: { name }, data: { x: '3' } } });
      assert.deepEqual(kubernetes.get('configmaps', namespace, name)?.data, { x: '3' });
    });

    it('refuses a missing object, and the uid of an earlier object of that name', async () => {
      const made = await make('1');
      kubernetes.remove('configmaps', namespace, name);
      const unguarded = { metadata: { name } };
      await refused(core.replaceNamespacedConfigMap({ namespace, name, body: unguarded }), 404, 'NotFound');
      await make('2');
      const other = { metadata: { name, uid: made.metadata?.uid ?? '' } };
      await refused(core.replaceNamespacedConfigMap({ namespace, name, body: other }), 409, 'Conflict');
    });

    it('changes only the status under /status', async () => {
      kubernetes.put('pods', dominoPod({ runId: 'a'.repeat(24), userId: 'u', userName: 'alice' }));
      const [pod] = kubernetes.list('pods');
      const path = { namespace: 'domino-compute', name: pod?.metadata?.name ?? '' };
      const body = { metadata: { name: path.name }, status: { phase: 'Failed' } };
      const answer = await core.replaceNamespacedPodStatus({ ...path, body });
      assert.equal(answer.status?.phase, 'Failed');
      assert.equal(answer.spec?.containers.length, 2);
    });

    it('requires a resourceVersion and microseconds for a lease, and lets one of two updates win', async () => {
      const leases = config.makeApiClient(CoordinationV1Api);
      const spec = { holderIdentity: 'a', leaseDurationSeconds: 15, renewTime: new V1MicroTime() };
      const made = await leases.createNamespacedLease({ namespace, body: { metadata: { name }, spec } });
      const take = (holderIdentity: string) =>
        leases.replaceNamespacedLease({ namespace, name, body: { ...made, spec: { ...spec, holderIdentity } } });
      const taken = await Promise.allSettled([take('b'), take('c')]);
      assert.deepEqual(taken.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
      const unguarded = { metadata: { name }, spec };
      await refused(leases.replaceNamespacedLease({ namespace, name, body: unguarded }), 422, 'Invalid');
      const url = `${kubernetes.url}/apis/coordination.k8s.io/v1/namespaces/${namespace}/leases`;
      const milliseconds = { metadata: { name: 'two' }, spec: { renewTime: '2026-11-02T09:00:00.123Z' } };
      assert.equal((await call(url, 'POST', milliseconds)).code, 400);
    });
  });

  describe('patch', () => {
    it('applies a merge patch, in which null removes a key', async () => {
      await make('1');
      const merged = await patch({ data: { x: null, y: '2' } }, PatchStrategy.MergePatch);
      assert.deepEqual(merged.data, { y: '2' });
    });

    it('applies a JSON patch completely or not at all', async () => {
      await make('1');
      const json = await patch(
        [
          { op: 'test', path: '/data/x', value: '1' },
          { op: 'add', path: '/metadata/annotations', value: {} },
          { op: 'add', path: '/metadata/annotations/a~1b', value: 'c' },
          { op: 'move', from: '/data/x', path: '/data/y' },
        ],
        PatchStrategy.JsonPatch,
      );
      assert.deepEqual([json.data, json.metadata?.annotations], [{ y: '1' }, { 'a/b': 'c' }]);
      const failing = [
        { op: 'add', path: '/data/z', value: '3' },
        { op: 'test', path: '/data/y', value: 'other' },
      ];
      await refused(patch(failing, PatchStrategy.JsonPatch), 422, 'Invalid');
      await refused(patch([{ op: 'remove', path: '/data/none' }], PatchStrategy.JsonPatch), 422, 'Invalid');
      assert.deepEqual(kubernetes.get('configmaps', namespace, name)?.data, { y: '1' });
    });

    it('merges lists by name in a strategic merge patch', async () => {
      const containers = [
        { name: 'a', image: 'a:1' },
        { name: 'b', image: 'b:1' },
      ];
      kubernetes.put('pods', { metadata: { name, namespace }, spec: { containers } });
      const body = { spec: { $setElementOrder: [], containers: [{ name: 'b', image: 'b:2' }] } };
      const merge = setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch);
      const pod = await core.patchNamespacedPod({ namespace, name, body }, merge);
      assert.deepEqual(
        pod.spec?.containers.map(({ image }) => image),
        ['a:1', 'b:2'],
      );
    });

    it('creates or merges on server-side apply', async () => {
      const apply = (data: object) =>
        core.patchNamespacedConfigMap(
          { namespace, name, body: { metadata: { name }, data }, fieldManager: 'test' },
          setHeaderOptions('Content-Type', PatchStrategy.ServerSideApply),
        );
      await apply({ x: '1' });
      assert.deepEqual((await apply({ y: '2' })).data, { x: '1', y: '2' });
    });

    it('refuses a stale resourceVersion, a missing object and an unknown content type', async () => {
      const made = await make('1');
      const resourceVersion = made.metadata?.resourceVersion;
      await patch({ metadata: { resourceVersion }, data: { x: '2' } }, PatchStrategy.MergePatch);
      const stale = patch({ metadata: { resourceVersion }, data: { x: '3' } }, PatchStrategy.MergePatch);
      await refused(stale, 409, 'Conflict');
      await refused(patch({}, PatchStrategy.MergePatch, 'none'), 404, 'NotFound');
      assert.equal((await call(`${maps}/${name}`, 'PATCH', {})).code, 415);
    });

    it('keeps the resourceVersion when nothing changes', async () => {
      const made = await make('1');
      const same = await patch({ data: { x: '1' }, metadata: { labels: null } }, PatchStrategy.MergePatch);
      const body = { metadata: { name }, data: { x: '1' } };
      const put = await core.replaceNamespacedConfigMap({ namespace, name, body });
      assert.equal(same.metadata?.resourceVersion, made.metadata?.resourceVersion);
      assert.equal(put.metadata?.resourceVersion, made.metadata?.resourceVersion);
    });
  });

  describe('delete', () => {
    it('deletes an object only when its preconditions match', async () => {
      const made = await make('1');
      const remove = (preconditions: object) =>
        core.deleteNamespacedConfigMap({ namespace, name, body: { preconditions } });
      await refused(remove({ uid: 'another' }), 409, 'Conflict');
      await refused(remove({ resourceVersion: '1' }), 409, 'Conflict');
      const gone = await remove({ uid: made.metadata?.uid, resourceVersion: made.metadata?.resourceVersion });
      assert.equal(gone.status, 'Success');
      await refused(remove({}), 404, 'NotFound');
    });

    it('answers with the deleted service account', async () => {
      kubernetes.put('serviceaccounts', dominoServiceAccount('run-1'));
      const gone = await core.deleteNamespacedServiceAccount({ namespace: 'domino-compute', name: 'run-1' });
      assert.equal(gone.metadata?.name, 'run-1');
    });

    it('deletes a collection by label selector', async () => {
      kubernetes.put('configmaps', { metadata: { name: 'a', namespace, labels: { x: '1' } } });
      kubernetes.put('configmaps', { metadata: { name: 'b', namespace } });
      await core.deleteCollectionNamespacedConfigMap({ namespace, labelSelector: 'x=1' });
      assert.deepEqual(
        kubernetes.list('configmaps').map((map) => map.metadata?.name),
        ['b'],
      );
    });

    it('deletes a pod at once by default; with gracefulPods, only when its finalizers are gone', async () => {
      const metadata = { name, namespace, finalizers: ['test/held'] };
      kubernetes.put('pods', { metadata });
      await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 30 });
      assert.equal(kubernetes.get('pods', namespace, name), undefined);
      kubernetes.knobs.gracefulPods = true;
      kubernetes.put('pods', { metadata });
      const going = await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 30 });
      assert.ok(going.metadata?.deletionTimestamp);
      await core.deleteNamespacedPod({ namespace, name, gracePeriodSeconds: 0 });
      assert.ok(kubernetes.get('pods', namespace, name), 'the finalizer keeps it');
      const merge = setHeaderOptions('Content-Type', PatchStrategy.MergePatch);
      await core.patchNamespacedPod({ namespace, name, body: { metadata: { finalizers: null } } }, merge);
      assert.equal(kubernetes.get('pods', namespace, name), undefined);
    });
  });

  it('refuses unknown paths and methods', async () => {
    assert.equal((await call(`${kubernetes.url}/api/v1/secrets`)).body.reason, 'NotFound');
    assert.equal((await call(`${kubernetes.url}/nothing`)).code, 404);
    assert.equal((await call(maps, 'PUT', {})).body.reason, 'MethodNotAllowed');
    assert.equal((await call(`${kubernetes.url}/api/v1/configmaps`, 'POST', {})).code, 405);
  });

  it('creates, reads and lists namespaces', async () => {
    await core.createNamespace({ body: { metadata: { name: 'made' } } });
    assert.equal((await core.readNamespace({ name: 'made' })).status?.phase, 'Active');
    assert.equal((await core.listNamespace()).items.length, 1);
  });

  it('dominoPod builds run pods of realistic size and name', () => {
    const owner = { userId: '60faf443e43b3c7a6f5f5eea', userName: 'alice', runId: '646d27b817c28b5ea4b5b0c1' };
    const pod = dominoPod(owner);
    assert.match(pod.metadata?.name ?? '', /^run-646d27b817c28b5ea4b5b0c1-[a-z0-9]{5}$/);
    const size = JSON.stringify(pod).length;
    assert.ok(size > 6_000 && size < 10_000, `${size} bytes`);
    const worker = dominoPod({ ...owner, component: 'ray-worker', index: 1 });
    assert.equal(worker.spec?.serviceAccountName, 'ray-646d27b817c28b5ea4b5b0c1-ray');
    assert.equal(worker.metadata?.labels?.['app.kubernetes.io/component'], 'worker');
  });
});
