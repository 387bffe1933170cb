/** Owns the published trust statuses as this replica sees them, by proxy role. */
import type { ConfigMap } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import { parseStatus, type TrustStatus } from './trust-status.ts';

export interface PublishedStatus {
  configMap: string;
  resourceVersion: string;
  annotations: Readonly<Record<string, string>>;
  status: TrustStatus;
}

export interface Statuses {
  get(roleArn: string): PublishedStatus | undefined;
  all(): Iterable<PublishedStatus>;
  /** Calls back with the ARN of each role whose status changed. @returns what takes the listener away. */
  onChange(listener: (roleArn: string) => void): () => void;
}

export function createStatuses(configMaps: Watched<ConfigMap>): Statuses {
  const byRole = new Map<string, PublishedStatus>();
  const roleOf = new Map<string, string>();
  const listeners = new Set<(roleArn: string) => void>();

  configMaps.onChange((name, value) => {
    const status = value && parseStatus(value.data);
    const role = status?.role_arn ?? roleOf.get(name);
    if (role === undefined) return;
    if (status && value) {
      const { resourceVersion, annotations } = value;
      byRole.set(role, { configMap: name, resourceVersion, annotations, status });
      roleOf.set(name, role);
    } else {
      byRole.delete(role);
      roleOf.delete(name);
    }
    for (const listener of listeners) listener(role);
  });

  return {
    get: (roleArn) => byRole.get(roleArn),
    all: () => byRole.values(),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
