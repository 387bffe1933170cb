/** Owns a ConfigMap that many replicas and administrators change: what it holds now, and changes of which none is lost. */
import type { Clock } from '../lib/clock.ts';
import { ApiError } from '../lib/errors.ts';
import { Listeners } from '../lib/listeners.ts';
import type { ConfigMap, Kubernetes } from './client.ts';
import { isAtLeast } from './resource-version.ts';
import { KubernetesError, kubernetesUnavailable } from './transport.ts';
import type { Watched } from './watch.ts';

export type ConfigMapData = Readonly<Record<string, string>>;

type Changes = Readonly<Record<string, string | null>>;
/** What to set, or to take away with null, given what is there. */
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
  /** What it holds, in the plural, for people: `mappings`. */
  content: string;
  /** Reads the data. An entry that cannot be read is its own to judge: it never throws. */
  parse: (data: ConfigMapData) => T;
  /** What `parse` depends on is known once this resolves. */
  needs?: Promise<void>;
}

/** https://kubernetes.io/docs/concepts/configuration/configmap/: the data of a ConfigMap is at most 1 MiB. */
const maxConfigMapBytes = 1_048_576;
/** Each meets a change of another replica's: those of this one are made together. */
const attempts = 20;
const firstPauseMs = 20;
const longestPauseMs = 500;
const maxWatchLagMs = 1_000;
const confirmPauseMs = 1_000;

export class ConfigMapStore<T> {
  /** Resolves when what it holds is known. */
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
      if (configMap) this.#tell(configMap.data);
      else void this.#confirmMissing();
    });
    const known = watched.synced.then(() => (watched.get(name) ? undefined : this.#confirmMissing()));
    this.synced = Promise.all([known, options.needs]).then(() => undefined);
  }

  /** As the watch has it: milliseconds behind the API server. */
  readonly current = (): T => this.#current;

  /** Calls back after each change. @returns what takes the listener away. */
  readonly onChange = this.#listeners.add;

  /** False while the watch is lost: what is current here may be over. */
  readonly isLive = (): boolean => this.#options.watched.isLive();

  /** As the API server has it. @throws ApiError `kubernetes_unavailable` */
  readonly read = async (): Promise<T> => this.parse(await this.#read());

  /** Parses anew: something else that the parsing depends on changed. */
  refresh(): void {
    this.#tell(this.#data);
  }

  /** Resolves when the watch is no older than what the API server has now, or `signal` was aborted. */
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
   * Makes one change, guarded by the resourceVersion that it was made from, and waits until this replica sees it.
   * @param edit what to set, or to take away with null, given what is there; it may be asked again, and may throw.
   * @throws ApiError `invalid_request` where the ConfigMap would grow too large, `conflict` where too many changed it at
   * once, `kubernetes_unavailable`; and whatever `edit` throws.
   */
  async change(edit: Edit): Promise<Changed> {
    const settled = new Promise<Parameters<Waiting['settle']>[0]>((settle) => this.#waiting.push({ edit, settle }));
    void this.#serve();
    const { result, version } = await settled;
    if ('error' in result) throw result.error;
    if (version !== undefined) await this.#untilSeen(version);
    return result;
  }

  /** What `change` would do. Writes nothing. @throws ApiError as `change` does. */
  async dryRun(edit: Edit): Promise<Changed> {
    const before = await this.#read();
    return { before, after: this.#edited(before, edit(before)) };
  }

  #tell(data: ConfigMapData): void {
    const before = this.#current;
    this.#data = data;
    this.#current = this.parse(data);
    this.#listeners.notify(this.#current, before);
  }

  #read(): Promise<ConfigMapData> {
    const { kubernetes, name } = this.#options;
    return this.#attempt(async () => (await kubernetes.getConfigMap(name))?.data ?? {});
  }

  /** A watch that was started anew may list nothing by mistake: whether there is none is asked by name. Invariant 3. */
  async #confirmMissing(): Promise<void> {
    const { kubernetes, watched, name, clock } = this.#options;
    while (!watched.get(name)) {
      const found = await kubernetes.getConfigMap(name).catch(() => 'unknown' as const);
      if (found === 'unknown') await clock.sleep(confirmPauseMs);
      // Unless the watch found it again in the meantime, and so knows later.
      else if (!watched.get(name)) return this.#tell(found?.data ?? {});
    }
  }

  /** A client that got its 200 finds the change here; the watch brings it within milliseconds, to other replicas too. */
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
        const moved = error.kind === 'conflict' || error.kind === 'not_found';
        if (!moved) throw kubernetesUnavailable(error);
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
   * Makes all of these changes in one write, one after the other as if each were alone.
   * @returns what each did, or what its edit threw; and the resourceVersion where something was written.
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
      // One that the cluster's admission refuses is no reason to refuse the others.
      if (batch.length > 1 && error instanceof ApiError && error.code === 'kubernetes_refused') {
        for (const one of batch) await this.#settleAll([one]);
      } else for (const { settle } of batch) settle({ result: { error } });
    }
  }

  /** This replica's changes would only meet each other: those that come while one is under way are the next one. */
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

/** @throws ApiError `invalid_request` where Kubernetes could not keep so much. */
export function refuseTooLarge(data: ConfigMapData, content: string): void {
  const bytes = Object.entries(data).reduce(
    (sum, [key, text]) => sum + Buffer.byteLength(key) + Buffer.byteLength(text),
    0,
  );
  if (bytes <= maxConfigMapBytes) return;
  const detail = `All ${content} together would take ${bytes} bytes, and Kubernetes keeps at most ${maxConfigMapBytes}. Nothing was changed.`;
  throw new ApiError('invalid_request', detail, { errors: [{ path: '/body', message: 'too large to be stored' }] });
}
