/** Owns the mapping ConfigMap: what it says now, and changes to it that lose nobody else's. */
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

export function createMappingStore(kubernetes: Kubernetes, watched: Watched<ConfigMap>, log: Log): MappingStore {
  let parsed = parseMappings({});
  const listeners: (() => void)[] = [];
  watched.onChange((_name, configMap) => {
    parsed = parseMappings(configMap?.data ?? {});
    for (const [org, problem] of parsed.unreadable) {
      log.error({ org, problem }, 'the stored mapping of this organization cannot be read: its members get no roles');
    }
    for (const listener of listeners) listener();
  });

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
    if (stored) await kubernetes.patchConfigMap(mappingConfigMap, { [org]: text }, stored.resourceVersion);
    else if (text !== null) await kubernetes.createConfigMap(mappingConfigMap, { [org]: text });
    return before.byOrg.get(org) ?? [];
  }

  return {
    current: () => parsed,
    onChange: (listener) => {
      listeners.push(listener);
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
