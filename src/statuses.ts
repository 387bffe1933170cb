/** Owns what the writer published, as this replica sees it: one ConfigMap each, found by what it tells of. */
import type { ConfigMap } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';

/** How one kind of status is kept in a ConfigMap. */
export interface StatusForm<S> {
  /** On the ConfigMap: what it is. */
  readonly label: string;
  /** What a status tells of: a proxy role's ARN, a service account. */
  keyOf(status: S): string;
  /** The ConfigMap's name. */
  nameOf(key: string): string;
  data(status: S): Record<string, string>;
  /** @returns undefined where the ConfigMap holds no status of this form. */
  parse(data: Record<string, string>): S | undefined;
  /** What of it is worth a write when it changes. */
  content(status: S): unknown;
}

export interface PublishedStatus<S> {
  configMap: string;
  resourceVersion: string;
  annotations: Readonly<Record<string, string>>;
  status: S;
}

export interface Statuses<S> {
  get(key: string): PublishedStatus<S> | undefined;
  all(): Iterable<PublishedStatus<S>>;
  /** False while what is here may be over, see `Watched`. */
  isLive(): boolean;
  /** Calls back with the key of each status that changed. @returns what takes the listener away. */
  onChange(listener: (key: string) => void): () => void;
}

export function createStatuses<S>(form: StatusForm<S>, configMaps: Watched<ConfigMap>): Statuses<S> {
  const byKey = new Map<string, PublishedStatus<S>>();
  const keyOf = new Map<string, string>();
  const listeners = new Set<(key: string) => void>();

  configMaps.onChange((name, value) => {
    const status = value && form.parse(value.data);
    const said = status && form.keyOf(status);
    // Somebody may have copied it, or edited it to tell of something else, which has a ConfigMap of its own.
    const key = said !== undefined && form.nameOf(said) === name ? said : undefined;
    const before = keyOf.get(name);
    if (before !== undefined) byKey.delete(before);
    keyOf.delete(name);
    if (status && value && key !== undefined) {
      const { resourceVersion, annotations } = value;
      byKey.set(key, { configMap: name, resourceVersion, annotations, status });
      keyOf.set(name, key);
    }
    const changed = key ?? before;
    if (changed !== undefined) for (const listener of listeners) listener(changed);
  });

  return {
    get: (key) => byKey.get(key),
    all: () => byKey.values(),
    isLive: configMaps.isLive,
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}
