/** Owns the mapping ConfigMap: its present content, and changes that keep concurrent ones. */

import { ConfigMapStore, type Edit, type StoreSources } from '../kubernetes/config-map-store.ts';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { OrganizationStore } from './organization-store.ts';
import { type Mappings, mappingConfigMap, parseMappings, type RoleMapping, storedText } from './role-mappings.ts';

type Organizations = Pick<OrganizationStore, 'synced' | 'current' | 'onChange'>;

export class MappingStore extends ConfigMapStore<Mappings> {
  constructor({ organizations, log, ...sources }: StoreSources & { organizations: Organizations; log: Log }) {
    super({
      ...sources,
      name: mappingConfigMap,
      content: 'mappings',
      parse: (data) => parseMappings(data, organizations.current()),
      needs: organizations.synced,
    });
    organizations.onChange(() => this.refresh());
    this.onChange(({ unreadable }, before) => {
      for (const [org, problem] of unreadable) {
        if (before.unreadable.get(org) === problem) continue;
        log.error({ org, problem }, 'the stored mapping of this organization cannot be read: its members get no roles');
      }
    });
  }

  /** Replaces the organization's mappings. @returns the former ones. @throws ApiError as `change` does. */
  set(org: string, mappings: readonly RoleMapping[]): Promise<readonly RoleMapping[]> {
    return this.#replace(org, mappings);
  }

  /** Deletes the organization's mappings. @throws ApiError as `change` does, and `mapping_not_found`. */
  remove(org: string): Promise<readonly RoleMapping[]> {
    return this.#replace(org, undefined);
  }

  /** All mappings before and after a `set` or `remove`, which is not carried out. @throws ApiError as these do. */
  async preview(org: string, mappings: readonly RoleMapping[] | undefined) {
    const { before, after } = await this.dryRun(editOf(org, mappings));
    return { before: this.parse(before), after: this.parse(after) };
  }

  async #replace(org: string, mappings: readonly RoleMapping[] | undefined): Promise<readonly RoleMapping[]> {
    const { before } = await this.change(editOf(org, mappings));
    return this.parse(before).byOrg.get(org) ?? [];
  }
}

function editOf(org: string, mappings: readonly RoleMapping[] | undefined): Edit {
  return (data) => {
    if (mappings) return { [org]: storedText(mappings) };
    if (Object.hasOwn(data, org)) return { [org]: null };
    throw new ApiError('mapping_not_found', `Organization ${org} is not mapped to any role.`);
  };
}
