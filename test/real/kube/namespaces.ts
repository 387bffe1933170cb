/** Owns what the namespace controller does where none runs: it empties a namespace that is deleted, and lets it go. */
import type { RealCluster } from './cluster.ts';

interface Discovered {
  resources: { name: string; namespaced: boolean; verbs: string[] }[];
}

interface Groups {
  groups: { preferredVersion: { groupVersion: string } }[];
}

export async function createNamespaces(cluster: RealCluster, ...names: string[]): Promise<void> {
  for (const name of names) await cluster.must('POST', '/api/v1/namespaces', { metadata: { name } });
}

/** Deletes a namespace with all that is in it, as `kubectl delete namespace` does in a cluster with controllers. */
export async function deleteNamespace(cluster: RealCluster, name: string): Promise<void> {
  const path = `/api/v1/namespaces/${name}`;
  await cluster.must('DELETE', path);
  const { groups } = (await cluster.must('GET', '/apis')) as unknown as Groups;
  const roots = ['/api/v1', ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  for (const root of roots) {
    const { resources } = (await cluster.must('GET', root)) as unknown as Discovered;
    const kinds = resources.filter(({ namespaced, verbs }) => namespaced && verbs.includes('deletecollection'));
    for (const kind of kinds) {
      await cluster.must('DELETE', `${root}/namespaces/${name}/${kind.name}?gracePeriodSeconds=0`);
    }
  }
  const emptied = await cluster.must('GET', path);
  await cluster.must('PUT', `${path}/finalize`, { ...emptied, spec: { finalizers: [] } });
}
