/** Owns watches: local copies of Kubernetes lists, trimmed to the fields that we use, and restarted when lost. */
import type { Readable } from 'node:stream';
import type { KubernetesListObject, KubernetesObject } from '@kubernetes/client-node';
import type { Clock } from '../lib/clock.ts';
import { Listeners } from '../lib/listeners.ts';
import type { Log } from '../lib/log.ts';
import { type KubernetesApi, KubernetesError } from './transport.ts';

/** A local copy of a list in the API server, which follows changes within milliseconds. */
export interface Watched<T> {
  /** Resolves when the first list has been read and the watch is open. */
  readonly synced: Promise<void>;
  /** False while the watch is lost, when the copy may be out of date. */
  isLive(): boolean;
  /**
   * False after a list that was empty, or lacked more than half of the copy, until a later list confirms the copy.
   * Events bring back only objects that change, so any object may be missing in the meantime. Invariant 3.
   */
  isWhole(): boolean;
  get(name: string): T | undefined;
  values(): Iterable<T>;
  /** Calls back after each change with the object, or undefined when it is gone. @returns removes the listener. */
  onChange(listener: (name: string, value: T | undefined) => void): () => void;
  stop(): void;
}

export interface WatchOptions<T> {
  api: KubernetesApi;
  /** `/api/v1/namespaces/<namespace>/pods` */
  path: string;
  labelSelector?: string;
  fieldSelector?: string;
  /** Picks the fields to keep. The rest is dropped at once, since 10,000 whole pods would fill the memory. */
  trim: (object: KubernetesObject) => T;
  clock: Clock;
  log: Log;
  /** Called each time the watch is lost and restarts. */
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

/** A pod has 10 kB: small pages keep the garbage, and so the memory, small. */
const pageSize = 50;
const doubtPausesMs = [500, 1_000, 2_000];
const firstConfirmMs = 5_000;
const longestConfirmMs = 60_000;
/** The API server sends a bookmark about every minute. On HTTP/2, pings find a dead connection sooner. */
export const longestQuietMs = 150_000;
/** A watch that was open for longer does not count as a failure. */
const steadyMs = 1_000;

export function watchList<T>(options: WatchOptions<T>): Watched<T> {
  const { api, path, clock, log } = options;
  const { labelSelector, fieldSelector } = options;
  const kept = new Map<string, Kept<T>>();
  const listeners = new Listeners<[name: string, value: T | undefined]>((err, name) =>
    log.error({ err, path, name }, 'a watch listener failed'),
  );
  const stopping = new AbortController();
  /** The resourceVersion to watch from; undefined: read a new list first. */
  let version: string | undefined;
  let failures = 0;
  let isLive = false;
  /** How many lists in a row were so short that another one has to confirm them. */
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

  /** Reads a list again, up to three times, where it lacks more than half of the copy. */
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
    // Mostly 410: the API server's history does not go back so far. A new list helps with other errors too.
    if (type === 'ERROR') throw new ListAgainError(`${object.code} ${object.message}`);
    if (type === 'DELETED') drop(object.metadata?.name ?? '');
    else if (type === 'ADDED' || type === 'MODIFIED') set(keep(object));
    version = object.metadata?.resourceVersion ?? version;
  }

  /** Follows changes from `version` on. @returns whether any event came before the API server ended the watch. */
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

  /** A short list may be a mistake: it is read again until another list confirms it, and for as long as it is empty. */
  async function listAgainLater(ending: AbortController): Promise<void> {
    await clock.sleep(Math.min(longestConfirmMs, firstConfirmMs * 2 ** (shortLists - 1)), ending.signal);
    ending.abort(new ShortListError('the list was short'));
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      try {
        if (!version) await list();
        // Pause before the next watch where the API server ends watches at once.
        if (!(await follow())) failures += 1;
      } catch (error) {
        if (stopping.signal.aborted) return;
        if (error instanceof ShortListError) {
          // It has waited already: a further pause would delay events that clients wait for.
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

/** The known resourceVersion cannot start a watch any more. */
class ListAgainError extends Error {}

/** The watch was ended on purpose, to confirm a short list. */
class ShortListError extends Error {}

async function* linesOf(body: Readable): AsyncGenerator<string, void> {
  let rest = '';
  for await (const chunk of body.setEncoding('utf8') as AsyncIterable<string>) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
  }
}

/** Reads a whole list from the API server, in pages, and not from its cache. */
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
