/** Owns the publishing of statuses: one ConfigMap for each role or account, written only by the lease holder. */
import { isDeepStrictEqual } from 'node:util';
import type { Kubernetes } from '../kubernetes/client.ts';
import { isMoved, KubernetesError } from '../kubernetes/error.ts';
import type { StatusForm } from './status-form.ts';
import type { Statuses } from './status-store.ts';

export interface Publisher<S> {
  /** Writes the status. @throws KubernetesError */
  publish(status: S): Promise<void>;
  /** Whether the watch shows the ConfigMap as this replica published it last. */
  stands(key: string): boolean;
  /** Deletes the status. @throws KubernetesError */
  withdraw(key: string): Promise<void>;
}

/** @param mayWrite whether the lease is held: a former holder must not publish an outdated status. */
export function createPublisher<S>(
  form: StatusForm<S>,
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap' | 'deleteConfigMap'>,
  statuses: Pick<Statuses<S>, 'get'>,
  mayWrite: () => boolean,
): Publisher<S> {
  /** Key -> the resourceVersion of our last write. */
  const versions = new Map<string, string>();
  const published = new Map<string, unknown>();
  /** Key -> the content of a write in flight: the watch may show it before the API server answers us. */
  const underWay = new Map<string, unknown>();

  async function put(name: string, data: Record<string, string>, key: string): Promise<string> {
    const known = versions.get(key) ?? (await kubernetes.getConfigMap(name))?.resourceVersion;
    if (!mayWrite()) throw new KubernetesError('conflict', 'the lease ran out before the status was published');
    const written =
      known === undefined
        ? await kubernetes.createConfigMap(name, data, { [form.label]: 'true' })
        : await kubernetes.patchConfigMap(name, data, known, { [form.label]: 'true' });
    return written.resourceVersion;
  }

  function stands(key: string): boolean {
    const there = statuses.get(key);
    const content = there && form.content(there.status);
    if (underWay.has(key) && isDeepStrictEqual(underWay.get(key), content)) return true;
    return isDeepStrictEqual(published.get(key), content);
  }

  return {
    stands,
    publish: async (status) => {
      const key = form.keyOf(status);
      const name = form.nameOf(key);
      const data = form.data(status);
      if (isDeepStrictEqual(published.get(key), form.content(status)) && stands(key)) return;
      underWay.set(key, form.content(status));
      try {
        versions.set(key, await put(name, data, key));
      } catch (error) {
        versions.delete(key);
        published.delete(key);
        // It was deleted or edited by hand: read its version, and overwrite it.
        if (!isMoved(error) || !mayWrite()) throw error;
        versions.set(key, await put(name, data, key));
      } finally {
        underWay.delete(key);
      }
      published.set(key, form.content(status));
    },
    withdraw: async (key) => {
      const name = form.nameOf(key);
      versions.delete(key);
      published.delete(key);
      const current = await kubernetes.getConfigMap(name);
      if (current && mayWrite()) await kubernetes.deleteConfigMap(name, current.resourceVersion);
    },
  };
}
