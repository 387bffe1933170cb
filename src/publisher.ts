/** Owns the publishing of trust statuses: one ConfigMap per proxy role, written by the lease holder alone. */
import { isDeepStrictEqual } from 'node:util';
import type { Kubernetes } from './kubernetes.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Statuses } from './statuses.ts';
import { statusData, statusName, type TrustStatus, trustStatusLabel } from './trust-status.ts';

export interface Publisher {
  /** Writes the role's status. @throws KubernetesError */
  publish(status: TrustStatus): Promise<void>;
  /** Whether what was published last is what stands there, as far as the watch has it. */
  stands(roleArn: string): boolean;
  /** Takes the role's status away. @throws KubernetesError */
  withdraw(roleArn: string): Promise<void>;
}

/** @param mayWrite whether the lease is held: a holder that lost it must not publish what is no longer so. */
export function createPublisher(
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap' | 'deleteConfigMap'>,
  statuses: Pick<Statuses, 'get'>,
  mayWrite: () => boolean,
): Publisher {
  /** Role -> the resourceVersion of what we wrote last. */
  const versions = new Map<string, string>();
  const published = new Map<string, StatusContent>();

  async function put(name: string, data: Record<string, string>, role: string): Promise<string> {
    const known = versions.get(role) ?? (await kubernetes.getConfigMap(name))?.resourceVersion;
    if (!mayWrite()) throw new KubernetesError('conflict', 'the lease ran out before the status was published');
    const written =
      known === undefined
        ? await kubernetes.createConfigMap(name, data, { [trustStatusLabel]: 'true' })
        : await kubernetes.patchConfigMap(name, data, known);
    return written.resourceVersion;
  }

  function stands(role: string): boolean {
    const there = statuses.get(role);
    return isDeepStrictEqual(published.get(role), there && contentOf(there.status));
  }

  return {
    stands,
    publish: async (status) => {
      const role = status.role_arn;
      const name = statusName(role);
      const data = statusData(status);
      if (isDeepStrictEqual(published.get(role), contentOf(status)) && stands(role)) return;
      try {
        versions.set(role, await put(name, data, role));
      } catch (error) {
        versions.delete(role);
        published.delete(role);
        // Somebody deleted or edited it by hand: what stands there is read, and written over.
        const changed = error instanceof KubernetesError && (error.kind === 'conflict' || error.kind === 'not_found');
        if (!changed || !mayWrite()) throw error;
        versions.set(role, await put(name, data, role));
      }
      published.set(role, contentOf(status));
    },
    withdraw: async (role) => {
      const name = statusName(role);
      versions.delete(role);
      published.delete(role);
      const current = await kubernetes.getConfigMap(name);
      if (current && mayWrite()) await kubernetes.deleteConfigMap(name, current.resourceVersion);
    },
  };
}

/** Without the time of the last comparison, which alone is not worth a write. */
type StatusContent = Omit<TrustStatus, 'compared_at'>;

function contentOf({ compared_at: _when, ...content }: TrustStatus): StatusContent {
  return content;
}
