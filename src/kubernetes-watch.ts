/** Owns the watched copies of Kubernetes lists: trimmed to what we read, restarted for as long as they are wanted. */
import { type KubernetesListObject, type KubernetesObject, ListWatch, Watch } from '@kubernetes/client-node';
import type { Clock } from './clock.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import type { Log } from './log.ts';

/** A copy of a list in the API server that follows its changes within milliseconds. */
export interface Watched<T> {
  /** Resolves when the first list is here and the watch is up. */
  readonly synced: Promise<void>;
  get(name: string): T | undefined;
  values(): Iterable<T>;
  /**
   * Calls back after each change with the object as it is now, or undefined when it is gone.
   * @returns what takes the listener away.
   */
  onChange(listener: (name: string, value: T | undefined) => void): () => void;
  stop(): void;
}

export interface WatchOptions<T> {
  api: KubernetesApi;
  /** `/api/v1/namespaces/<namespace>/pods` */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** What is kept of an object: the rest of it is let go at once, since 10,000 whole pods would fill the memory. */
  trim: (object: KubernetesObject) => T;
  clock: Clock;
  log: Log;
  /** Told each time the watch had to be started anew. */
  onRestart?: () => void;
}

interface Kept<T> extends KubernetesObject {
  value: T;
}

/** Pods come at 10 kB each: small pages keep what has to be collected, and so the memory, small. */
const pageSize = 50;

export function watchList<T>(options: WatchOptions<T>): Watched<T> {
  const { api, path, clock, log } = options;
  const keep = (object: KubernetesObject): Kept<T> => {
    const { name, namespace, resourceVersion } = object.metadata ?? {};
    return {
      metadata: { name, namespace, resourceVersion } as KubernetesObject['metadata'] & {},
      value: options.trim(object),
    };
  };

  /** Adds bookmarks to the library's watch, so that a quiet list does not fall out of the server's history. */
  class TrimmingWatch extends Watch {
    override watch(...[watchPath, query, callback, done]: Parameters<Watch['watch']>): Promise<AbortController> {
      const trimmed: typeof callback = (phase, object, event) => {
        const whole = phase === 'ERROR' || phase === 'BOOKMARK';
        callback(phase, whole ? object : keep(object as KubernetesObject), event);
      };
      return super.watch(watchPath, { ...query, allowWatchBookmarks: true }, trimmed, done);
    }
  }

  const list = async (): Promise<KubernetesListObject<Kept<T>>> => {
    const items: Kept<T>[] = [];
    const { resourceVersion } = await listPages(api, path, options, (object) => items.push(keep(object)));
    return {
      apiVersion: 'v1',
      kind: 'List',
      items,
      metadata: { resourceVersion } as KubernetesListObject<Kept<T>>['metadata'] & {},
    };
  };

  const listWatch = new ListWatch<Kept<T>>(
    path,
    new TrimmingWatch(api.kubeConfig),
    list,
    false,
    options.labelSelector,
    options.fieldSelector,
    { delayFn: (ms) => clock.sleep(ms) },
  );
  const values = new Map<string, T>();
  const listeners = new Set<(name: string, value: T | undefined) => void>();
  const tell = (name: string, value: T | undefined) => {
    for (const listener of listeners) {
      try {
        listener(name, value);
      } catch (error) {
        // The library swallows what is thrown in its callbacks.
        log.error({ err: error, path, name }, 'a watch listener failed');
      }
    }
  };
  const nameOf = (object: Kept<T>) => object.metadata?.name ?? '';
  const set = (object: Kept<T>) => {
    values.set(nameOf(object), object.value);
    tell(nameOf(object), object.value);
  };
  listWatch.on('add', set);
  listWatch.on('update', set);
  listWatch.on('delete', (object) => {
    values.delete(nameOf(object));
    tell(nameOf(object), undefined);
  });

  const stopping = new AbortController();
  let failures = 0;
  let announce: () => void = () => undefined;
  const whenSynced = new Promise<void>((resolve) => {
    announce = resolve;
  });
  // The library stops for good on any error but 410 Gone: it is started again, later and later up to 5 s.
  listWatch.on('error', (error: unknown) => {
    if (stopping.signal.aborted) return;
    failures += 1;
    log[failures > 3 ? 'warn' : 'info']({ err: error, path, failures }, 'watch lost, starting it again');
    options.onRestart?.();
    const pause = Math.min(5_000, 100 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
    void clock.sleep(pause, stopping.signal).then(start);
  });
  async function start(): Promise<void> {
    if (stopping.signal.aborted) return;
    const before = failures;
    await listWatch.start();
    // start() also returns when it failed; the error was told to the listener above.
    if (failures !== before || stopping.signal.aborted) return;
    failures = 0;
    announce();
  }
  void start();

  return {
    synced: whenSynced,
    get: (name) => values.get(name),
    values: () => values.values(),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop: () => {
      stopping.abort();
      void listWatch.stop();
    },
  };
}

/** Reads a whole list from the API server, in pages, with nothing from a cache. */
export async function listPages(
  api: KubernetesApi,
  path: string,
  selectors: { labelSelector?: string; fieldSelector?: string },
  each: (object: KubernetesObject) => void,
): Promise<{ resourceVersion: string }> {
  let next: string | undefined;
  let resourceVersion = '';
  do {
    const page: KubernetesListObject<KubernetesObject> & { metadata?: { continue?: string } } = await api.call(
      'GET',
      path,
      {
        query: {
          limit: pageSize,
          continue: next,
          labelSelector: selectors.labelSelector,
          fieldSelector: selectors.fieldSelector,
        },
        deadlineMs: 30_000,
      },
    );
    for (const object of page.items ?? []) each(object);
    resourceVersion = page.metadata?.resourceVersion ?? '';
    next = page.metadata?.continue || undefined;
  } while (next);
  return { resourceVersion };
}
