/** Owns a ConfigMap that many replicas and administrators change: its content, and changes without lost updates. */
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import { Listeners } from '../lib/listeners.ts';
import type { ConfigMap, Kubernetes } from './client.ts';
import { isMoved, KubernetesError, kubernetesUnavailable } from './error.ts';
import { isAtLeast } from './resource-version.ts';
import type { Watched } from './watch.ts';

export type ConfigMapData = Readonly<Record<string, string>>;

type Changes = Readonly<Record<string, string | null>>;
/** Returns the keys to set, or to remove with null, for the present data. */
export type Edit = (data: ConfigMapData) => Changes;

/** The data before a change and after it. */
export interface Changed {
  before: ConfigMapData;
  after: ConfigMapData;
}

type Result = Changed | { error: unknown };

interface Waiting {
  edit: Edit;
  settle: (result: { result: Result; version?: string | undefined }) => void;
}

export interface StoreSources {
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap'>;
  watched: Pick<Watched<ConfigMap>, 'get' | 'onChange' | 'synced' | 'isLive'>;
  clock: Clock;
}

export interface ConfigMapStoreOptions<T> extends StoreSources {
  name: string;
  /** What the ConfigMap contains, in the plural, for messages: `mappings`. */
  content: string;
  /** Parses the data. It must not throw, and decides itself what an unreadable entry means. */
  parse: (data: ConfigMapData) => T;
  /** Resolves when the other data that `parse` needs is known. */
  needs?: Promise<void>;
}

/** https://kubernetes.io/docs/concepts/configuration/configmap/: the data of a ConfigMap is at most 1 MiB. */
const maxConfigMapBytes = 1_048_576;
/** Each failed attempt means that another replica wrote first; this replica's own changes share one write. */
const attempts = 20;
const firstPauseMs = 20;
const longestPauseMs = 500;
const maxWatchLagMs = 1_000;
const confirmPauseMs = 1_000;

export class ConfigMapStore<T> {
  /** Resolves when the content is known. */
  readonly synced: Promise<void>;
  readonly parse: (data: ConfigMapData) => T;
  readonly #options: ConfigMapStoreOptions<T>;
  readonly #listeners = new Listeners<[now: T, before: T]>();
  readonly #waiting: Waiting[] = [];
  #data: ConfigMapData = {};
  #current: T;
  #isBusy = false;

  constructor(options: ConfigMapStoreOptions<T>) {
    const { watched, name, parse } = options;
    this.#options = options;
    this.parse = parse;
    this.#current = parse({});
    watched.onChange((_name, configMap) => {
      if (configMap) this.#update(configMap.data);
      else void this.#confirmMissing();
    });
    const known = watched.synced.then(() => (watched.get(name) ? undefined : this.#confirmMissing()));
    this.synced = Promise.all([known, options.needs]).then(() => undefined);
  }

  /** The content as the watch has it, milliseconds behind the API server. */
  readonly current = (): T => this.#current;

  /** Calls back after each change. @returns a function that removes the listener. */
  readonly onChange = this.#listeners.add;

  /** False while the watch is lost, when `current` may be out of date. */
  readonly isLive = (): boolean => this.#options.watched.isLive();

  /** Reads the content from the API server. @throws ApiError `kubernetes_unavailable` */
  readonly read = async (): Promise<T> => this.parse(await this.#read());

  /** Parses the data again after other data that `parse` needs has changed. */
  refresh(): void {
    this.#update(this.#data);
  }

  /** Resolves when the watch has caught up with the API server's present content, or `signal` was aborted. */
  readonly caughtUp = async (signal: AbortSignal): Promise<void> => {
    const { kubernetes, watched, name, clock } = this.#options;
    while (!signal.aborted) {
      const found = await kubernetes.getConfigMap(name).catch(() => 'unknown' as const);
      const seen = watched.get(name);
      if (found === undefined && !seen) return;
      if (found && found !== 'unknown' && isAtLeast(seen?.resourceVersion ?? '', found.resourceVersion)) return;
      await clock.sleep(confirmPauseMs, signal);
    }
  };

  /**
   * Makes one change, guarded by the resourceVersion that it is based on, and waits until this replica's watch has it.
   * @param edit may be called again after a conflict, and may throw.
   * @throws ApiError `invalid_request` where the ConfigMap would grow too large, `conflict` after too many concurrent
   * changes, `kubernetes_unavailable`; and whatever `edit` throws.
   */
  async change(edit: Edit): Promise<Changed> {
    const settled = new Promise<Parameters<Waiting['settle']>[0]>((settle) => this.#waiting.push({ edit, settle }));
    void this.#serve();
    const { result, version } = await settled;
    if ('error' in result) throw result.error;
    if (version !== undefined) await this.#untilSeen(version);
    return result;
  }

  /** Returns what `change` would do, and writes nothing. @throws ApiError as `change` does. */
  async dryRun(edit: Edit): Promise<Changed> {
    const before = await this.#read();
    return { before, after: this.#edited(before, edit(before)) };
  }

  #update(data: ConfigMapData): void {
    const before = this.#current;
    this.#data = data;
    this.#current = this.parse(data);
    this.#listeners.notify(this.#current, before);
  }

  #read(): Promise<ConfigMapData> {
    const { kubernetes, name } = this.#options;
    return this.#attempt(async () => (await kubernetes.getConfigMap(name))?.data ?? {});
  }

  /** A restarted watch may list nothing by mistake, so a missing ConfigMap is confirmed by a GET. Invariant 3. */
  async #confirmMissing(): Promise<void> {
    const { kubernetes, watched, name, clock } = this.#options;
    while (!watched.get(name)) {
      const found = await kubernetes.getConfigMap(name).catch(() => 'unknown' as const);
      if (found === 'unknown') await clock.sleep(confirmPauseMs);
      // Where the watch has found it in the meantime, the watch's content is newer.
      else if (!watched.get(name)) return this.#update(found?.data ?? {});
    }
  }

  /** Waits for the watch, so that a client that got its 200 finds the change here; other replicas see it as fast. */
  async #untilSeen(resourceVersion: string): Promise<void> {
    const { watched, name, clock } = this.#options;
    const seen = () => isAtLeast(watched.get(name)?.resourceVersion ?? '', resourceVersion);
    if (seen()) return;
    const done = new AbortController();
    const forget = this.#listeners.add(() => seen() && done.abort());
    await clock.sleep(maxWatchLagMs, done.signal);
    forget();
  }

  async #attempt<R>(action: () => Promise<R>): Promise<R> {
    const { content, clock } = this.#options;
    for (let tries = 1; ; tries += 1) {
      try {
        return await action();
      } catch (error) {
        if (!(error instanceof KubernetesError)) throw error;
        if (!isMoved(error)) throw kubernetesUnavailable(error);
        if (tries < attempts) {
          const pause = Math.min(longestPauseMs, firstPauseMs * 2 ** tries) * (0.5 + Math.random() / 2);
          await clock.sleep(pause);
          continue;
        }
        const detail = `Others kept changing the ${content} at the same time. Nothing was changed; try again.`;
        throw new ApiError('conflict', detail, { cause: error });
      }
    }
  }

  #edited(before: ConfigMapData, changes: Changes): ConfigMapData {
    const after = withChanges(before, changes);
    if (Object.values(changes).some((text) => text !== null)) refuseTooLarge(after, this.#options.content);
    return after;
  }

  /**
   * Applies all of these edits in order, each as if it were alone, and writes the result once.
   * @returns what each edit did or threw; and the resourceVersion where something was written.
   */
  async #changeAll(batch: readonly Waiting[]): Promise<{ results: Result[]; version?: string }> {
    const { kubernetes, name } = this.#options;
    const stored = await kubernetes.getConfigMap(name);
    let data: ConfigMapData = stored?.data ?? {};
    let changes: Changes = {};
    const results = batch.map(({ edit }): Result => {
      const before = data;
      try {
        const edited = edit(before);
        data = this.#edited(before, edited);
        changes = { ...changes, ...edited };
        return { before, after: data };
      } catch (error) {
        return { error };
      }
    });
    if (Object.keys(changes).length === 0) return { results };
    const written = stored
      ? await kubernetes.patchConfigMap(name, changes, stored.resourceVersion)
      : await kubernetes.createConfigMap(name, data);
    return { results, version: written.resourceVersion };
  }

  async #settleAll(batch: readonly Waiting[]): Promise<void> {
    try {
      const { results, version } = await this.#attempt(() => this.#changeAll(batch));
      for (const [index, { settle }] of batch.entries()) settle({ result: results[index] as Result, version });
    } catch (error) {
      // Admission may refuse only one of the changes: make each in a write of its own.
      if (batch.length > 1 && error instanceof ApiError && error.code === 'kubernetes_refused') {
        for (const one of batch) await this.#settleAll([one]);
      } else for (const { settle } of batch) settle({ result: { error } });
    }
  }

  /** Writes one batch at a time, so that this replica's changes do not conflict; later ones form the next batch. */
  async #serve(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#waiting.length > 0) await this.#settleAll(this.#waiting.splice(0));
    this.#isBusy = false;
  }
}

function withChanges(data: ConfigMapData, changes: Changes): Record<string, string> {
  const all = Object.entries({ ...data, ...changes });
  return Object.fromEntries(all.filter((entry): entry is [string, string] => entry[1] !== null));
}

/** @throws ApiError `invalid_request` where the data exceeds what Kubernetes stores. */
export function refuseTooLarge(data: ConfigMapData, content: string): void {
  const bytes = Object.entries(data).reduce(
    (sum, [key, text]) => sum + Buffer.byteLength(key) + Buffer.byteLength(text),
    0,
  );
  if (bytes <= maxConfigMapBytes) return;
  const detail = `All ${content} together would take ${bytes} bytes, and Kubernetes keeps at most ${maxConfigMapBytes}. Nothing was changed.`;
  throw new ApiError('invalid_request', detail, { errors: [{ path: '/body', message: 'too large to be stored' }] });
}
