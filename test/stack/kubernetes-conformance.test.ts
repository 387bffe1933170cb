/** Proves that the Kubernetes stand-in behaves as the real API server: both must pass the same cases. */
import { randomUUID } from 'node:crypto';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { conformance, type Peer } from './kubernetes-conformance.ts';
import { tokenConformance } from './kubernetes-token-conformance.ts';

describe('Kubernetes stand-in: conformance with kube-apiserver', () => {
  let kubernetes: KubernetesStandIn;
  before(async () => {
    kubernetes = await startKubernetes();
  });
  after(() => kubernetes.close());

  const peer = (): Peer => ({
    url: kubernetes.url,
    namespace: async () => {
      const name = `space-${randomUUID()}`;
      kubernetes.put('namespaces', { metadata: { name } });
      return name;
    },
    forget: async () => kubernetes.expire(),
    crowd: async () => {
      Object.assign(kubernetes.knobs, { failRate: 1, failStatus: 429 });
      return async () => void Object.assign(kubernetes.knobs, { failRate: 0 });
    },
  });
  conformance(peer);
  describe('TokenRequests', () => tokenConformance(peer));
});
