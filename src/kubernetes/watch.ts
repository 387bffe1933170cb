/** Owns the watched copies of Kubernetes lists: trimmed to what we read, restarted for as long as they are wanted. */
import type { Readable } from 'node:stream';
import type { KubernetesListObject, KubernetesObject } from '@kubernetes/client-node';
import type { Clock } from '../lib/clock.ts';
import { Listeners } from '../lib/listeners.ts';
import type { Log } from '../lib/log.ts';
import { type KubernetesApi, KubernetesError } from './transport.ts';

/** A copy of a list in the API server that follows its changes within milliseconds. */
export interface Watched<T> {
  /** Resolves when the first list is here and the watch is up. */
  readonly synced: Promise<void>;
  /** False from when the watch was lost until it is up again: what is here may be over. */
  isLive(): boolean;
  /**
   * False from when a list had nothing, or had lost more than half of what was here, until a later one confirms what is
   * here: events bring back only what changes, so anything may be missing meanwhile. Invariant 3.
   */
  isWhole(): boolean;
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

interface Kept<T> {
  name: string;
  resourceVersion: string;
  value: T;
}

interface WatchEvent {
  type: string;
  object: KubernetesObject & { code?: number; message?: string };
}

/** Pods come at 10 kB each: small pages keep what has to be collected, and so the memory, small. */
const pageSize = 50;
const doubtPausesMs = [500, 1_000, 2_000];
const firstConfirmMs = 5_000;
const longestConfirmMs = 60_000;
/** The API server sends a bookmark about every minute. Dead connections are noticed before, where they speak HTTP/2. */
export const longestQuietMs = 150_000;
/** A watch that was up for so long was no failure. */
const steadyMs = 1_000;

export function watchList<T>(options: WatchOptions<T>): Watched<T> {
  const { api, path, clock, log } = options;
  const { labelSelector, fieldSelector } = options;
  const kept = new Map<string, Kept<T>>();
  const listeners = new Listeners<[name: string, value: T | undefined]>((err, name) =>
    log.error({ err, path, name }, 'a watch listener failed'),
  );
  const stopping = new AbortController();
  /** Where the next watch begins; undefined: at a new list. */
  let version: string | undefined;
  let failures = 0;
  let isLive = false;
  /** How many lists in a row were too short to be believed without another. */
  let shortLists = 0;
  const synced = Promise.withResolvers<void>();

  const keep = (object: KubernetesObject): Kept<T> => {
    const { name = '', resourceVersion = '' } = object.metadata ?? {};
    return { name, resourceVersion, value: options.trim(object) };
  };
  const drop = (name: string) => {
    if (kept.delete(name)) listeners.notify(name, undefined);
  };
  const set = (one: Kept<T>) => {
    if (kept.get(one.name)?.resourceVersion === one.resourceVersion) return;
    kept.set(one.name, one);
    listeners.notify(one.name, one.value);
  };

  /** A list that lost more than half of what was there is read again before it is believed. */
  async function believableList(): Promise<{ items: Kept<T>[]; resourceVersion: string }> {
    for (const pause of [...doubtPausesMs, undefined]) {
      const items: Kept<T>[] = [];
      const { resourceVersion } = await listPages(api, path, options, (object) => items.push(keep(object)));
      if (items.length * 2 >= kept.size || pause === undefined) return { items, resourceVersion };
      log.warn({ path, had: kept.size, listed: items.length }, 'a list lost more than half; reading it again');
      await clock.sleep(pause, stopping.signal);
    }
    throw new Error('unreachable');
  }

  async function list(): Promise<void> {
    const { items, resourceVersion } = await believableList();
    const isShort = items.length === 0 || items.length * 2 < kept.size;
    shortLists = isShort ? shortLists + 1 : 0;
    const names = new Set(items.map(({ name }) => name));
    for (const name of [...kept.keys()]) if (!names.has(name)) drop(name);
    for (const one of items) set(one);
    version = resourceVersion;
  }

  function take({ type, object }: WatchEvent): void {
    // 410 as a rule: history does not go back so far. A new list helps against whatever else it may be.
    if (type === 'ERROR') throw new ListAgainError(`${object.code} ${object.message}`);
    if (type === 'DELETED') drop(object.metadata?.name ?? '');
    else if (type === 'ADDED' || type === 'MODIFIED') set(keep(object));
    version = object.metadata?.resourceVersion ?? version;
  }

  /** Follows the changes from `version` on. @returns whether anything came before the API server ended it. */
  async function follow(): Promise<boolean> {
    const ending = new AbortController();
    const query = { resourceVersion: version, labelSelector, fieldSelector };
    const startedAt = clock.monotonic();
    let lastAt = startedAt;
    let hasCome = false;
    try {
      const signal = AbortSignal.any([ending.signal, stopping.signal]);
      const body = await api.watch(path, query, signal);
      isLive = true;
      synced.resolve();
      void endWhenQuiet(() => lastAt, ending);
      if (shortLists > 0) void listAgainLater(ending);
      for await (const line of linesOf(body)) {
        lastAt = clock.monotonic();
        hasCome = true;
        take(JSON.parse(line) as WatchEvent);
      }
      ending.signal.throwIfAborted();
      return hasCome;
    } catch (error) {
      throw ending.signal.reason ?? error;
    } finally {
      if (isLive && (hasCome || clock.monotonic() - startedAt > steadyMs)) failures = 0;
      isLive = false;
      ending.abort();
    }
  }

  async function endWhenQuiet(lastAt: () => number, ending: AbortController): Promise<void> {
    for (let left = longestQuietMs; left > 0; left = lastAt() + longestQuietMs - clock.monotonic()) {
      await clock.sleep(left, ending.signal);
      if (ending.signal.aborted) return;
    }
    ending.abort(new Error('not even a bookmark came for minutes'));
  }

  /** A short list may be a mistake: it is read again until one confirms it, and for as long as it is empty. */
  async function listAgainLater(ending: AbortController): Promise<void> {
    await clock.sleep(Math.min(longestConfirmMs, firstConfirmMs * 2 ** (shortLists - 1)), ending.signal);
    ending.abort(new ShortListError('the list was short'));
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        if (!version) await list();
        // An API server that ends watches at once must not be asked without a pause.
        if (!(await follow())) failures += 1;
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (error instanceof ShortListError) {
          // It waited before: events of clients that wait must not wait any longer.
          version = undefined;
          continue;
        }
        if (error instanceof ListAgainError || (error instanceof KubernetesError && error.status === 410)) {
          version = undefined;
        } else {
          log[failures > 2 ? 'warn' : 'info']({ err: error, path, failures }, 'watch lost, starting it again');
          options.onRestart?.();
        }
        failures += 1;
      }
      const pause = Math.min(5_000, 100 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
      if (failures > 0) await clock.sleep(pause, stopping.signal);
    }
  }

  void run();

  return {
    synced: synced.promise,
    isLive: () => isLive,
    isWhole: () => shortLists === 0,
    get: (name) => kept.get(name)?.value,
    *values() {
      for (const { value } of kept.values()) yield value;
    },
    onChange: listeners.add,
    stop: () => stopping.abort(),
  };
}

/** What is known is no base for a watch any more. */
class ListAgainError extends Error {}

/** The watch was ended on purpose, to have a short list confirmed. */
class ShortListError extends Error {}

async function* linesOf(body: Readable): AsyncGenerator<string, void> {
  let rest = '';
  for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
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
