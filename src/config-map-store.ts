/** Owns changes to a ConfigMap that many replicas and administrators change: none of them is lost. */
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { ConfigMap, Kubernetes } from './kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import { isAtLeast } from './resource-version.ts';

export type ConfigMapData = Readonly<Record<string, string>>;

export interface ConfigMapStore {
  /** Resolves when what it holds was told for the first time; nothing is told where there is no ConfigMap. */
  readonly synced: Promise<void>;
  /** Calls back with the data after each change, as the watch has it: milliseconds behind the API server. */
  onChange(listener: (data: ConfigMapData) => void): void;
  /** As the API server has it. @throws ApiError `kubernetes_unavailable` */
  read(): Promise<ConfigMapData>;
  /** Resolves when the watch is no older than what the API server has now, or `signal` was aborted. */
  caughtUp(signal: AbortSignal): Promise<void>;
  /**
   * Makes one change, guarded by the resourceVersion that it was made from, and waits until this replica sees it.
   * @param edit what to set, or to take away with null, given what is there; it may be asked again, and may throw.
   * @returns what was there before.
   * @throws ApiError `invalid_request` where the ConfigMap would grow too large, `conflict` where too many changed it at
   * once, `kubernetes_unavailable`; and whatever `edit` throws.
   */
  change(edit: (data: ConfigMapData) => Readonly<Record<string, string | null>>): Promise<ConfigMapData>;
}

export interface ConfigMapStoreOptions {
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap'>;
  watched: Pick<Watched<ConfigMap>, 'get' | 'onChange' | 'synced'>;
  name: string;
  /** What it holds, in the plural, for people: `mappings`. */
  content: string;
  clock: Clock;
}

/** https://kubernetes.io/docs/concepts/configuration/configmap/: the data of a ConfigMap is at most 1 MiB. */
const maxConfigMapBytes = 1_048_576;
const attempts = 20;
const maxWatchLagMs = 1_000;
const confirmPauseMs = 1_000;

export function createConfigMapStore(options: ConfigMapStoreOptions): ConfigMapStore {
  const { kubernetes, watched, name, content, clock } = options;
  const listeners = new Set<(data: ConfigMapData) => void>();
  const tell = (data: ConfigMapData) => {
    for (const listener of listeners) listener(data);
  };
  watched.onChange((_name, configMap) => {
    if (configMap) tell(configMap.data);
    else void confirmMissing();
  });
  const synced = watched.synced.then(() => (watched.get(name) ? undefined : confirmMissing()));

  /** A watch that was started anew may list nothing by mistake: whether there is none is asked by name. Invariant 3. */
  async function confirmMissing(): Promise<void> {
    while (!watched.get(name)) {
      const found = await kubernetes.getConfigMap(name).catch(() => 'unknown' as const);
      if (found === 'unknown') await clock.sleep(confirmPauseMs);
      // Unless the watch found it again in the meantime, and so knows later.
      else if (!watched.get(name)) return tell(found?.data ?? {});
    }
  }

  async function caughtUp(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const found = await kubernetes.getConfigMap(name).catch(() => 'unknown' as const);
      const seen = watched.get(name);
      if (found === undefined && !seen) return;
      if (found && found !== 'unknown' && isAtLeast(seen?.resourceVersion ?? '', found.resourceVersion)) return;
      await clock.sleep(confirmPauseMs, signal);
    }
  }

  /** Whoever was told 200 finds the change here; the watch brings it within milliseconds, to other replicas too. */
  async function untilSeen(resourceVersion: string): Promise<void> {
    const seen = () => isAtLeast(watched.get(name)?.resourceVersion ?? '', resourceVersion);
    if (seen()) return;
    const done = new AbortController();
    const listener = () => seen() && done.abort();
    listeners.add(listener);
    await clock.sleep(maxWatchLagMs, done.signal);
    listeners.delete(listener);
  }

  async function attempt<T>(action: () => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries += 1) {
      try {
        return await action();
      } catch (error) {
        if (!(error instanceof KubernetesError)) throw error;
        const moved = error.kind === 'conflict' || error.kind === 'not_found';
        if (!moved) throw kubernetesUnavailable(error);
        if (tries < attempts) continue;
        const detail = `Others kept changing the ${content} at the same time. Nothing was changed; try again.`;
        throw new ApiError('conflict', detail, { cause: error });
      }
    }
  }

  return {
    synced,
    onChange: (listener) => {
      listeners.add(listener);
    },
    caughtUp,
    read: () => attempt(async () => (await kubernetes.getConfigMap(name))?.data ?? {}),
    change: (edit) =>
      attempt(async () => {
        const stored = await kubernetes.getConfigMap(name);
        const before = stored?.data ?? {};
        const changes = edit(before);
        if (Object.keys(changes).length === 0) return before;
        const added = Object.fromEntries(
          Object.entries(changes).filter((entry): entry is [string, string] => entry[1] !== null),
        );
        if (Object.keys(added).length > 0) refuseTooLarge({ ...before, ...added }, content);
        const written = stored
          ? await kubernetes.patchConfigMap(name, changes, stored.resourceVersion)
          : await kubernetes.createConfigMap(name, added);
        await untilSeen(written.resourceVersion);
        return before;
      }),
  };
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
