/** Owns the warnings about an organization's mappings: what is allowed, but may not be intended. Pure. */

import type { OrganizationRecord } from '../mappings/organizations.ts';
import { isManaged, type Mappings, type RoleMapping } from '../mappings/role-mappings.ts';
import { sharedReach } from '../mappings/shared-proxies.ts';
import type { RoleKnown } from '../proxy-roles/role-lookup.ts';
import { maxRoleRequestBytes, roleRequestBytes } from '../runs/role-request.ts';

export interface MappingWarning {
  /** Stable, for programs. */
  code: string;
  /** For people: the problem, and what to do. */
  detail: string;
  /** The role that it is about, if it is about one. */
  role_arn?: string;
}

export interface MappingWarningSources {
  org: string;
  /** The organization's mappings after the change. */
  list: readonly RoleMapping[];
  /** All mappings after the change. */
  after: Pick<Mappings, 'byOrg' | 'unmanagedProxies'>;
  /** The ids of the administrator's own organizations of this name. */
  own: readonly string[];
  /** The record of the organization's name. */
  record: OrganizationRecord | undefined;
  known: ReadonlyMap<string, RoleKnown>;
}

export function mappingWarnings({ org, list, after, own, record, known }: MappingWarningSources): MappingWarning[] {
  const proxies = [...new Set(list.map(({ proxy_iam_role_arn: arn }) => arn))];
  return [
    ...organizationWarnings(org, own, record),
    ...[...known].flatMap(([arn, state]) => roleWarning(arn, state)),
    ...proxies.flatMap((arn) => sharingWarnings(arn, org, after.byOrg)),
    ...keptElsewhere(list, after.unmanagedProxies),
    ...sizeWarning(after.byOrg),
  ];
}

function roleWarning(role_arn: string, state: RoleKnown): MappingWarning[] {
  if (state === 'found') return [];
  if (state === 'missing') {
    const detail = `IAM has no role ${role_arn}. Create it, or name another one: until then nobody gets the role.`;
    return [{ code: 'role_not_found', detail, role_arn }];
  }
  const detail = `Whether IAM has the role ${role_arn} is not known: this service could not read it now.`;
  return [{ code: 'role_not_checked', detail, role_arn }];
}

/** Only about the organization that is mapped: it reaches too much, or another one reaches its roles. */
function sharingWarnings(proxy: string, org: string, byOrg: Mappings['byOrg']): MappingWarning[] {
  const own = new Set((byOrg.get(org) ?? []).map(({ iam_role_arn: target }) => target));
  return sharedReach(proxy, byOrg).flatMap(({ domino_org, reaches_too: targets }) => {
    const reached = domino_org === org ? targets : targets.filter((target) => own.has(target));
    if (reached.length === 0) return [];
    const detail = `Members of ${domino_org} also reach ${reached.join(', ')}, which is not mapped to ${domino_org}, where the permissions of ${proxy} allow it: give each organization a proxy role of its own.`;
    return [{ code: 'proxy_role_shared', detail, role_arn: proxy }];
  });
}

/** A role that another mapping says is unmanaged is not written for any mapping. */
function keptElsewhere(list: readonly RoleMapping[], foreign: ReadonlySet<string>): MappingWarning[] {
  const proxies = new Set(list.filter(isManaged).map(({ proxy_iam_role_arn: arn }) => arn));
  return [...proxies.intersection(foreign)].map((role_arn) => {
    const detail = `Another organization's mapping says that the trust policy of ${role_arn} is kept elsewhere, so this service does not write it.`;
    return { code: 'proxy_role_kept_elsewhere', detail, role_arn };
  });
}

/** About a member of all organizations, since only Domino knows who is a member of which. */
function sizeWarning(byOrg: Mappings['byOrg']): MappingWarning[] {
  const bytes = [...byOrg].reduce((sum, [org, list]) => sum + roleRequestBytes(org, list), 0);
  if (bytes <= maxRoleRequestBytes) return [];
  const detail = `All mapped roles together take ${bytes} bytes, and Kubernetes keeps at most ${maxRoleRequestBytes} on a service account: a user who is a member of all mapped organizations gets none (too_many_roles).`;
  return [{ code: 'too_many_roles', detail }];
}

function organizationWarnings(
  org: string,
  own: readonly string[],
  record: OrganizationRecord | undefined,
): MappingWarning[] {
  if (!record) return own.length === 0 ? [unknown(org)] : own.length > 1 ? [ambiguous(org, own)] : [];
  const others = [...new Set([...own, ...record.contenders.map(({ id }) => id)])].filter((id) => id !== record.id);
  if (others.length === 0) return [];
  const which = record.id === '' ? 'a record that cannot be read' : `the organization with id ${record.id}`;
  const detail = `The mapping of ${org} stands for ${which}, and Domino also names ${others.join(', ')} by that name, whose members get nothing. To accept another one: POST /accept_organization.`;
  return [{ code: 'organization_id_mismatch', detail }];
}

function unknown(org: string): MappingWarning {
  const detail = `No organization ${org} is known here: you are not a member of one, and no member has asked yet. Check the name. The organization whose member asks first gets the roles; to say beforehand which one is meant, POST /accept_organization with its id.`;
  return { code: 'organization_unknown', detail };
}

function ambiguous(org: string, ids: readonly string[]): MappingWarning {
  const detail = `Domino names several organizations ${org} (${ids.join(', ')}), and their members get nothing until you say which one is meant: POST /accept_organization.`;
  return { code: 'organization_id_mismatch', detail };
}
