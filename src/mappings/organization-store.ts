/** Owns the ConfigMap of organization ids: the first id recorded for a name stays until an administrator changes it. */

import { ConfigMapStore, type StoreSources } from '../kubernetes/config-map-store.ts';
import {
  type OrganizationRecord,
  type OrganizationRecords,
  organizationConfigMap,
  parseOrganizations,
  withContender,
} from './organizations.ts';

export class OrganizationStore extends ConfigMapStore<OrganizationRecords> {
  readonly #now: () => string;

  constructor(sources: StoreSources) {
    super({ ...sources, name: organizationConfigMap, content: 'ids of organizations', parse: parseOrganizations });
    this.#now = () => new Date(sources.clock.now()).toISOString();
  }

  /**
   * Records an id for each name that has none yet.
   * @returns the records of these names, as the API server has them after the write.
   * @throws ApiError as `change` does.
   */
  async pin(ids: ReadonlyMap<string, string>, by: string): Promise<OrganizationRecords> {
    const own = new Map([...ids].map(([org, id]) => [org, this.#newRecord(id, by)]));
    const { after } = await this.change((data) =>
      Object.fromEntries([...own].filter(([org]) => !Object.hasOwn(data, org))),
    );
    return new Map([...parseOrganizations(after)].filter(([org]) => own.has(org)));
  }

  /** Records that a member of another organization of this name requested roles. @throws ApiError as `change` does. */
  async contend(org: string, id: string, user: string): Promise<void> {
    await this.change((data): Record<string, string> => {
      const record = parseOrganizations(data).get(org);
      const changed = record && withContender(record, { id, user, at: this.#now() });
      return changed ? { [org]: JSON.stringify(changed) } : {};
    });
  }

  /** Makes `id` the organization that the name stands for. @returns the former record. @throws ApiError as `change`. */
  async accept(org: string, id: string, by: string): Promise<OrganizationRecord | undefined> {
    const { before } = await this.change(() => ({ [org]: this.#newRecord(id, by) }));
    return parseOrganizations(before).get(org);
  }

  #newRecord(id: string, by: string): string {
    return JSON.stringify({ id, by, at: this.#now(), contenders: [] } satisfies OrganizationRecord);
  }
}
