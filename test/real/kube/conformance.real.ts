/** Proves that a real API server passes the cases which the Kubernetes stand-in must pass. */
import { randomUUID } from 'node:crypto';
import { conformance, type Peer } from '../../stack/kubernetes-conformance.ts';
import { tokenConformance } from '../../stack/kubernetes-token-conformance.ts';
import { orSkip } from '../tools.ts';
import { type RealCluster, startRealCluster, versions } from './cluster.ts';
import { leaveNoSeat } from './flow-control.ts';
import { createNamespaces } from './namespaces.ts';

describe(`kube-apiserver ${versions['kube-apiserver']}: conformance with the stand-in`, function () {
  this.timeout(30 * 60_000);
  let cluster: RealCluster;
  before(async function () {
    cluster = await orSkip(this, () => startRealCluster());
  });
  after(() => cluster?.stop());

  const peer = (): Peer => ({
    url: cluster.url,
    namespace: async () => {
      const name = `space-${randomUUID()}`;
      await createNamespaces(cluster, name);
      return name;
    },
    // The API server remembers moments that etcd has forgotten, until it is started again.
    forget: async () => {
      await cluster.compact();
      await cluster.restart();
    },
    crowd: (user) => leaveNoSeat(cluster, { kind: 'User', user: { name: user } }),
  });
  conformance(peer);
  describe('TokenRequests', () => tokenConformance(peer));
});
