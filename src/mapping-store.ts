/** Owns the mapping ConfigMap: what it says now, and changes to it that lose nobody else's. */
import type { Clock } from './clock.ts';
import { ApiError } from './errors.ts';
import type { ConfigMap, Kubernetes } from './kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { type Mappings, mappingConfigMap, parseMappings, type RoleMapping, storedText } from './mappings.ts';

export interface MappingStore {
  /** As the watch has it: milliseconds behind the API server. */
  current(): Mappings;
  onChange(listener: () => void): void;
  /** As the API server has it. @throws ApiError `kubernetes_unavailable` */
  read(): Promise<Mappings>;
  /**
   * Makes the organization's mappings just these.
   * @returns what they were before.
   * @throws ApiError `invalid_request` where the ConfigMap would grow too large, `conflict` where too many changed it at
   * once, `kubernetes_unavailable`.
   */
  set(org: string, mappings: readonly RoleMapping[]): Promise<readonly RoleMapping[]>;
  /** Takes the organization's mappings away. @throws ApiError as `set`, and `mapping_not_found`. */
  remove(org: string): Promise<readonly RoleMapping[]>;
}

/** https://kubernetes.io/docs/concepts/configuration/configmap/: the data of a ConfigMap is at most 1 MiB. */
const maxConfigMapBytes = 1_048_576;
const attempts = 20;
const maxWatchLagMs = 1_000;

export function createMappingStore(
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap'>,
  watched: Watched<ConfigMap>,
  clock: Clock,
  log: Log,
): MappingStore {
  let parsed = parseMappings({});
  const listeners = new Set<() => void>();
  watched.onChange((_name, configMap) => {
    parsed = parseMappings(configMap?.data ?? {});
    for (const [org, problem] of parsed.unreadable) {
      log.error({ org, problem }, 'the stored mapping of this organization cannot be read: its members get no roles');
    }
    for (const listener of listeners) listener();
  });

  /** Whoever was told 200 finds the change here; the watch brings it within milliseconds, to other replicas too. */
  async function untilSeen(resourceVersion: string): Promise<void> {
    const seen = () => isAtLeast(watched.get(mappingConfigMap)?.resourceVersion ?? '', resourceVersion);
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
        const detail = 'Others kept changing the mappings at the same time. Nothing was changed; try again.';
        throw new ApiError('conflict', detail, { cause: error });
      }
    }
  }

  /** One change, guarded by the resourceVersion that it was made from. @param text null takes the organization away. */
  async function change(org: string, text: string | null): Promise<readonly RoleMapping[]> {
    const stored = await kubernetes.getConfigMap(mappingConfigMap);
    const before = parseMappings(stored?.data ?? {});
    if (text === null && !Object.hasOwn(stored?.data ?? {}, org)) {
      throw new ApiError('mapping_not_found', `Organization ${org} is not mapped to any role.`);
    }
    if (text !== null) refuseTooLarge({ ...stored?.data, [org]: text });
    const written = stored
      ? await kubernetes.patchConfigMap(mappingConfigMap, { [org]: text }, stored.resourceVersion)
      : await kubernetes.createConfigMap(mappingConfigMap, { [org]: text ?? '' });
    await untilSeen(written.resourceVersion);
    return before.byOrg.get(org) ?? [];
  }

  return {
    current: () => parsed,
    onChange: (listener) => {
      listeners.add(listener);
    },
    read: () => attempt(async () => parseMappings((await kubernetes.getConfigMap(mappingConfigMap))?.data ?? {})),
    set: (org, mappings) => attempt(() => change(org, storedText(mappings))),
    remove: (org) => attempt(() => change(org, null)),
  };
}

function refuseTooLarge(data: Record<string, string>): void {
  const bytes = Object.entries(data).reduce(
    (sum, [key, text]) => sum + Buffer.byteLength(key) + Buffer.byteLength(text),
    0,
  );
  if (bytes <= maxConfigMapBytes) return;
  const detail = `All mappings together would take ${bytes} bytes, and Kubernetes keeps at most ${maxConfigMapBytes}. Nothing was changed.`;
  throw new ApiError('invalid_request', detail, { errors: [{ path: '/body', message: 'too large to be stored' }] });
}

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions: decimal numbers, so longer is later. */
function isAtLeast(version: string, other: string): boolean {
  return version.length === other.length ? version >= other : version.length > other.length;
}
