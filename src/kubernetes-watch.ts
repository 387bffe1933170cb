/** Owns the watched copies of Kubernetes lists: trimmed to what we read, restarted for as long as they are wanted. */
import { type KubernetesListObject, type KubernetesObject, ListWatch, Watch } from '@kubernetes/client-node';
import type { Clock } from './clock.ts';
import type { KubernetesApi } from './kubernetes-api.ts';
import type { Log } from './log.ts';

/** A copy of a list in the API server that follows its changes within milliseconds. */
export interface Watched<T> {
  /** Resolves when the first list is here and the watch is up. */
  readonly synced: Promise<void>;
  /** False from when the watch was lost until it is up again: what is here may be over. */
  isLive(): boolean;
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
const doubtPausesMs = [500, 1_000, 2_000];
const firstEmptyMs = 5_000;
const longestEmptyMs = 60_000;

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

  const values = new Map<string, T>();
  const listeners = new Set<(name: string, value: T | undefined) => void>();
  const stopping = new AbortController();
  let failures = 0;
  let isLive = false;
  let emptyLists = 0;
  const synced = Promise.withResolvers<void>();

  const nameOf = (object: Kept<T>) => object.metadata?.name ?? '';
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
  const drop = (name: string) => {
    if (values.delete(name)) tell(name, undefined);
  };

  /** A list that lost more than half of what was there is read again before it is believed. */
  async function believableList(): Promise<{ items: Kept<T>[]; resourceVersion: string }> {
    for (const pause of [...doubtPausesMs, undefined]) {
      const items: Kept<T>[] = [];
      const { resourceVersion } = await listPages(api, path, options, (object) => items.push(keep(object)));
      if (items.length * 2 >= values.size || pause === undefined) return { items, resourceVersion };
      log.warn({ path, had: values.size, listed: items.length }, 'a list lost more than half; reading it again');
      await clock.sleep(pause, stopping.signal);
    }
    throw new Error('unreachable');
  }

  async function list(): Promise<KubernetesListObject<Kept<T>>> {
    const { items, resourceVersion } = await believableList();
    const names = new Set(items.map(nameOf));
    for (const name of [...values.keys()]) if (!names.has(name)) drop(name);
    emptyLists = items.length === 0 ? emptyLists + 1 : 0;
    if (emptyLists > 0) void renewLater(current);
    const metadata = { resourceVersion } as KubernetesListObject<Kept<T>>['metadata'] & {};
    return { apiVersion: 'v1', kind: 'List', items, metadata };
  }

  function create(): ListWatch<Kept<T>> {
    const { labelSelector, fieldSelector } = options;
    const watch = new TrimmingWatch(api.kubeConfig);
    const delayFn = (ms: number) => clock.sleep(ms);
    const created = new ListWatch<Kept<T>>(path, watch, list, false, labelSelector, fieldSelector, { delayFn });
    const set = (object: Kept<T>) => {
      if (created !== current) return;
      values.set(nameOf(object), object.value);
      tell(nameOf(object), object.value);
    };
    created.on('add', set);
    created.on('update', set);
    created.on('delete', (object) => {
      if (created === current) drop(nameOf(object));
    });
    // The library stops for good on any error but 410 Gone: it is started again, later and later up to 5 s.
    created.on('error', (error: unknown) => {
      if (stopping.signal.aborted || created !== current) return;
      failures += 1;
      isLive = false;
      log[failures > 3 ? 'warn' : 'info']({ err: error, path, failures }, 'watch lost, starting it again');
      options.onRestart?.();
      const pause = Math.min(5_000, 100 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
      void clock.sleep(pause, stopping.signal).then(() => {
        if (created === current) void start();
      });
    });
    return created;
  }

  async function start(): Promise<void> {
    if (stopping.signal.aborted) return;
    const started = current;
    const before = failures;
    await started.start();
    // start() also returns when it failed; the error was told to the listener above.
    if (failures !== before || stopping.signal.aborted || started !== current) return;
    failures = 0;
    isLive = true;
    synced.resolve();
  }

  /** An empty list may be a mistake, and events bring back only what changes: it is read again for as long as it is empty. */
  async function renewLater(started: ListWatch<Kept<T>>): Promise<void> {
    await clock.sleep(Math.min(longestEmptyMs, firstEmptyMs * 2 ** (emptyLists - 1)), stopping.signal);
    if (stopping.signal.aborted || started !== current || emptyLists === 0) return;
    current = create();
    void started.stop();
    await start();
  }

  let current = create();
  void start();

  return {
    synced: synced.promise,
    isLive: () => isLive,
    get: (name) => values.get(name),
    values: () => values.values(),
    onChange: (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    stop: () => {
      stopping.abort();
      void current.stop();
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
