/** Owns the mapping ConfigMap: what it says now, and changes to it that lose nobody else's. */
import type { Clock } from './clock.ts';
import { type ConfigMapData, createConfigMapStore, refuseTooLarge } from './config-map-store.ts';
import { ApiError } from './errors.ts';
import type { ConfigMap, Kubernetes } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { type Mappings, mappingConfigMap, parseMappings, type RoleMapping, storedText } from './mappings.ts';

export interface MappingStore {
  /** Resolves when the mappings are known. */
  readonly synced: Promise<void>;
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
  /**
   * All mappings as they are and as `set` would make them, or `remove` where `mappings` is undefined. Writes nothing.
   * @throws ApiError as these do.
   */
  preview(org: string, mappings: readonly RoleMapping[] | undefined): Promise<{ before: Mappings; after: Mappings }>;
}

const content = 'mappings';

export function createMappingStore(
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap'>,
  watched: Watched<ConfigMap>,
  clock: Clock,
  log: Log,
): MappingStore {
  const store = createConfigMapStore({ kubernetes, watched, name: mappingConfigMap, content, clock });
  let parsed = parseMappings({});
  const listeners = new Set<() => void>();
  store.onChange((data) => {
    parsed = parseMappings(data);
    for (const [org, problem] of parsed.unreadable) {
      log.error({ org, problem }, 'the stored mapping of this organization cannot be read: its members get no roles');
    }
    for (const listener of listeners) listener();
  });

  const mappingsOf = (data: ConfigMapData, org: string) => parseMappings(data).byOrg.get(org) ?? [];

  return {
    synced: store.synced,
    current: () => parsed,
    onChange: (listener) => {
      listeners.add(listener);
    },
    read: async () => parseMappings(await store.read()),
    set: async (org, mappings) => mappingsOf(await store.change(() => ({ [org]: storedText(mappings) })), org),
    remove: async (org) => mappingsOf(await store.change((data) => removal(data, org)), org),
    preview: async (org, mappings) => {
      const data = await store.read();
      const before = parseMappings(data);
      if (!mappings) {
        removal(data, org);
        return {
          before,
          after: parseMappings(Object.fromEntries(Object.entries(data).filter(([key]) => key !== org))),
        };
      }
      const next = { ...data, [org]: storedText(mappings) };
      refuseTooLarge(next, content);
      return { before, after: parseMappings(next) };
    },
  };
}

function removal(data: ConfigMapData, org: string): Record<string, null> {
  if (!Object.hasOwn(data, org)) {
    throw new ApiError('mapping_not_found', `Organization ${org} is not mapped to any role.`);
  }
  return { [org]: null };
}
