/** Owns the tests of the Kubernetes stand-in, through the clients that the service and people use. */
import assert from 'node:assert/strict';
import { CoreV1Api, KubeConfig } from '@kubernetes/client-node';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';

describe('the Kubernetes stand-in', () => {
  let kubernetes: KubernetesStandIn;
  let core: CoreV1Api;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    const config = new KubeConfig();
    config.loadFromString(kubernetes.kubeconfig());
    core = config.makeApiClient(CoreV1Api);
  });

  afterEach(() => kubernetes.close());

  it('creates, gets, lists', async () => {
    const made = await core.createNamespacedConfigMap({
      namespace: 'a',
      body: { metadata: { name: 'one' }, data: { x: '1' } },
    });
    assert.ok(made.metadata?.uid);
    const read = await core.readNamespacedConfigMap({ namespace: 'a', name: 'one' });
    assert.deepEqual(read, made);
    const { items } = await core.listNamespacedConfigMap({ namespace: 'a' });
    assert.equal(items.length, 1);
  });
});
