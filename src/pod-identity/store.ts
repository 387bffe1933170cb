/** Owns the ConfigMap of Pod Identity mappings: what it has now, and changes that keep concurrent ones. */

import { type ConfigMapData, ConfigMapStore, type Edit, type StoreSources } from '../kubernetes/config-map-store.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import {
  type PodIdentities,
  type PodIdentityMapping,
  parsePodIdentities,
  podIdentityConfigMap,
  storedPodIdentity,
  storedPodIdentityOf,
} from './mappings.ts';

export interface PodIdentityChange {
  /** The user's mapping, where there was one that can be read. */
  before: PodIdentityMapping | undefined;
  after: PodIdentityMapping | undefined;
}

export class PodIdentityStore extends ConfigMapStore<PodIdentities> {
  constructor({ log, ...sources }: StoreSources & { log: Log }) {
    const content = 'Pod Identity mappings';
    super({ ...sources, name: podIdentityConfigMap, content, parse: parsePodIdentities });
    this.onChange(({ problems, replaced }) => {
      for (const [user, { code, detail }] of problems) {
        log.error({ user, code, problem: detail }, 'this Pod Identity mapping cannot be used: what the user has stays');
      }
      for (const [user, { code, detail }] of replaced) {
        const about = { user, code, problem: detail };
        log.error(about, 'another person has the name of a Pod Identity user: the role is removed');
      }
    });
  }

  /**
   * Sets one user's mapping.
   * @param dryRun writes nothing, and refuses the same.
   * @throws ApiError as `change` does, and `service_account_conflict` where another user has the service account.
   */
  async set(mapping: PodIdentityMapping, dryRun: boolean): Promise<PodIdentityChange> {
    const { domino_user: user } = mapping;
    let after = mapping;
    const edit: Edit = (data) => {
      refuseTaken(data, mapping);
      // An id that an administrator sends replaces what was recorded, another person's id under the name included.
      const known = mapping.domino_user_id === undefined ? storedPodIdentityOf(user, data) : undefined;
      const id = known?.mapping.domino_user_id;
      after = id === undefined ? mapping : { ...mapping, domino_user_id: id };
      return { [user]: storedPodIdentity(after, known?.contender) };
    };
    return { before: await this.#mappingBefore(user, edit, dryRun), after };
  }

  /** Removes one user's mapping. @throws ApiError as `change` does, and `mapping_not_found`. */
  async remove(user: string, dryRun: boolean): Promise<PodIdentityChange> {
    const edit: Edit = (data) => {
      if (Object.hasOwn(data, user)) return { [user]: null };
      throw new ApiError('mapping_not_found', `Domino user ${user} has no Pod Identity mapping.`);
    };
    return { before: await this.#mappingBefore(user, edit, dryRun), after: undefined };
  }

  /**
   * Records that pods under this user's name carry this id: the first id is the user's, a different one is another person's.
   * @throws ApiError as `change` does.
   */
  async met(user: string, id: string): Promise<void> {
    await this.change((data): Record<string, string> => {
      const known = storedPodIdentityOf(user, data);
      if (!known || known.mapping.domino_user_id === id || known.contender !== undefined) return {};
      const isFirst = known.mapping.domino_user_id === undefined;
      const mapping = isFirst ? { ...known.mapping, domino_user_id: id } : known.mapping;
      return { [user]: storedPodIdentity(mapping, isFirst ? undefined : id) };
    });
  }

  async #mappingBefore(user: string, edit: Edit, dryRun: boolean): Promise<PodIdentityMapping | undefined> {
    const { before } = await (dryRun ? this.dryRun(edit) : this.change(edit));
    return parsePodIdentities(before).byUser.get(user);
  }
}

/** Two users never share an account: one's pods would get the other's role. */
function refuseTaken(data: ConfigMapData, { domino_user: user, service_account: account }: PodIdentityMapping): void {
  const all = parsePodIdentities(data).byUser.values();
  const other = [...all].find((mapping) => mapping.service_account === account && mapping.domino_user !== user);
  if (!other) return;
  const detail = `Service account ${account} belongs to Domino user ${other.domino_user}. Nothing was changed; name another service_account.`;
  throw new ApiError('service_account_conflict', detail);
}
