/** Owns a replica's view of the published statuses, by subject, and the wait until one changes. */
import type { ConfigMap } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import { Listeners } from '../lib/listeners.ts';
import type { StatusForm } from './status-form.ts';

export interface PublishedStatus<S> {
  configMap: string;
  resourceVersion: string;
  annotations: Readonly<Record<string, string>>;
  status: S;
}

export interface Statuses<S> {
  get(key: string): PublishedStatus<S> | undefined;
  all(): Iterable<PublishedStatus<S>>;
  /** False while the statuses may be out of date, see `Watched`. */
  isLive(): boolean;
  /** Calls back with the key of each changed status. @returns a function that removes the listener. */
  onChange(listener: (key: string) => void): () => void;
}

export function createStatuses<S>(form: StatusForm<S>, configMaps: Watched<ConfigMap>): Statuses<S> {
  const byKey = new Map<string, PublishedStatus<S>>();
  const keyOf = new Map<string, string>();
  const listeners = new Listeners<[key: string]>();

  configMaps.onChange((name, value) => {
    const status = value && form.parse(value.data);
    const said = status && form.keyOf(status);
    // A copy, or one edited to name another subject, does not count: that subject has its own ConfigMap.
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
    if (changed !== undefined) listeners.notify(changed);
  });

  return {
    get: (key) => byKey.get(key),
    all: () => byKey.values(),
    isLive: configMaps.isLive,
    onChange: listeners.add,
  };
}

/**
 * Waits until `condition` holds, and checks it after each change of a status.
 * @returns whether it held within `ms` milliseconds.
 */
export async function untilPublished(
  statuses: Pick<Statuses<unknown>, 'onChange'>,
  clock: Clock,
  ms: number,
  condition: () => boolean,
): Promise<boolean> {
  if (condition()) return true;
  const done = new AbortController();
  const forget = statuses.onChange(() => {
    if (condition()) done.abort();
  });
  try {
    await clock.sleep(ms, done.signal);
  } finally {
    forget();
  }
  return condition();
}
