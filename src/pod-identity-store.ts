/** Owns the Pod Identity ConfigMap: what it says now, and changes to it that lose nobody else's. */
import type { Clock } from './clock.ts';
import { type ConfigMapData, createConfigMapStore, refuseTooLarge } from './config-map-store.ts';
import { ApiError } from './errors.ts';
import type { ConfigMap, Kubernetes } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import {
  type PodIdentities,
  type PodIdentityMapping,
  parsePodIdentities,
  podIdentityConfigMap,
  storedPodIdentity,
} from './pod-identities.ts';

export interface PodIdentityChange {
  /** The user's mapping, where there was one that can be read. */
  before: PodIdentityMapping | undefined;
  after: PodIdentityMapping | undefined;
}

export interface PodIdentityStore {
  /** Resolves when the mappings are known. */
  readonly synced: Promise<void>;
  /** As the watch has it: milliseconds behind the API server. */
  current(): PodIdentities;
  onChange(listener: () => void): void;
  /** As the API server has it. @throws ApiError `kubernetes_unavailable` */
  read(): Promise<PodIdentities>;
  /** Resolves when `current` is no older than what the API server has now, or `signal` was aborted. */
  caughtUp(signal: AbortSignal): Promise<void>;
  /**
   * Sets one user's mapping.
   * @param dryRun writes nothing, and refuses the same.
   * @throws ApiError `service_account_conflict` where another user has the account, `invalid_request` where the ConfigMap
   * would grow too large, `conflict` where too many changed it at once, `kubernetes_unavailable`.
   */
  set(mapping: PodIdentityMapping, dryRun: boolean): Promise<PodIdentityChange>;
  /** Takes one user's mapping away. @throws ApiError as `set`, and `mapping_not_found`. */
  remove(user: string, dryRun: boolean): Promise<PodIdentityChange>;
}

const content = 'Pod Identity mappings';

export function createPodIdentityStore(
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'createConfigMap' | 'patchConfigMap'>,
  watched: Watched<ConfigMap>,
  clock: Clock,
  log: Log,
): PodIdentityStore {
  const store = createConfigMapStore({ kubernetes, watched, name: podIdentityConfigMap, content, clock });
  let parsed = parsePodIdentities({});
  const listeners = new Set<() => void>();
  store.onChange((data) => {
    parsed = parsePodIdentities(data);
    for (const [user, { code, detail }] of parsed.problems) {
      log.error({ user, code, problem: detail }, 'this Pod Identity mapping cannot be used: what the user has stays');
    }
    for (const listener of listeners) listener();
  });

  async function change(
    edit: (data: ConfigMapData) => Record<string, string | null>,
    dryRun: boolean,
  ): Promise<ConfigMapData> {
    if (!dryRun) return store.change(edit);
    const data = await store.read();
    const next = Object.entries({ ...data, ...edit(data) }).filter((entry) => entry[1] !== null);
    refuseTooLarge(Object.fromEntries(next) as ConfigMapData, content);
    return data;
  }

  return {
    synced: store.synced,
    current: () => parsed,
    onChange: (listener) => {
      listeners.add(listener);
    },
    caughtUp: store.caughtUp,
    read: async () => parsePodIdentities(await store.read()),
    set: async (mapping, dryRun) => {
      const { domino_user: user } = mapping;
      const edit = (data: ConfigMapData) => {
        refuseTaken(data, mapping);
        return { [user]: storedPodIdentity(mapping) };
      };
      const before = parsePodIdentities(await change(edit, dryRun)).byUser.get(user);
      return { before, after: mapping };
    },
    remove: async (user, dryRun) => {
      const edit = (data: ConfigMapData) => {
        if (!Object.hasOwn(data, user)) {
          throw new ApiError('mapping_not_found', `Domino user ${user} has no Pod Identity mapping.`);
        }
        return { [user]: null };
      };
      return { before: parsePodIdentities(await change(edit, dryRun)).byUser.get(user), after: undefined };
    },
  };
}

/** Two users never share an account: one's pods would get the other's role. */
function refuseTaken(data: ConfigMapData, { domino_user: user, service_account: account }: PodIdentityMapping): void {
  const all = parsePodIdentities(data).byUser.values();
  const other = [...all].find((mapping) => mapping.service_account === account && mapping.domino_user !== user);
  if (!other) return;
  const detail = `Service account ${account} belongs to Domino user ${other.domino_user}. Nothing was changed; name another service_account.`;
  throw new ApiError('service_account_conflict', detail);
}
