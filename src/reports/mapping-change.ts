/** Owns an administrator's change of an organization's mappings: checks it, previews it, makes it, and reports its effects. */
import type { AwsIdentity } from '../aws/iam.ts';
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { orUnavailable, unlessMissing } from '../kubernetes/error.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { ApiError, type FieldError } from '../lib/errors.ts';
import type { OrganizationStore } from '../mappings/organization-store.ts';
import type { OrganizationRecord } from '../mappings/organizations.ts';
import type { Mappings, RoleMapping } from '../mappings/role-mappings.ts';
import type { MappingStore } from '../mappings/store.ts';
import type { PodIdentity } from '../pod-identity/setup.ts';
import { setRemoval } from '../proxy-roles/hand-over.ts';
import type { RoleLookup } from '../proxy-roles/role-lookup.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import type { Revocations } from '../runs/revocations.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { handedOver, previewMappings } from './mapping-preview.ts';
import { mappingRefusals } from './mapping-refusals.ts';
import { mappingWarnings } from './mapping-warnings.ts';

export interface MappingChangeDeps {
  config: { computeNamespace: string };
  kubernetes: Pick<Kubernetes, 'annotateConfigMap'>;
  trustScope: () => TrustScope | undefined;
  mappings: MappingStore;
  organizations: OrganizationStore;
  /** Whether IAM has these roles, where that is known quickly. */
  knownRoles: RoleLookup;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  revocations: Revocations;
  podIdentity: PodIdentity | undefined;
  awsIdentity: () => AwsIdentity | undefined;
}

export interface MappingChange {
  org: string;
  /** What is stored; undefined where the organization's mappings are deleted. */
  list: readonly RoleMapping[] | undefined;
  by: { readonly name: string; readonly organizationIds: ReadonlyMap<string, readonly string[]> };
  /** Whether the leader removes the service accounts from a role that becomes unmanaged. */
  removeSubjects?: boolean;
}

/** @param path of the list in the request. @throws ApiError `invalid_request`, `aws_unavailable` */
export function refuseUnusable(org: string, list: readonly RoleMapping[], path: string, deps: MappingChangeDeps): void {
  const identity = deps.awsIdentity();
  if (!identity) throw new ApiError('aws_unavailable', 'The AWS account of this service is not known yet; try again.');
  const errors = [...mappingRefusals(org, list, path, identity), ...podIdentityRoles(list, path, deps)];
  if (errors.length === 0) return;
  throw new ApiError('invalid_request', 'This mapping cannot be used; nothing was changed.', { errors });
}

/**
 * Replaces the organization's mappings with these.
 * @param written called once the mappings are stored, even where a later step fails.
 * @returns the roles that become unmanaged, and what the administrator should know.
 */
export async function setMappings(
  change: MappingChange & { list: readonly RoleMapping[] },
  deps: MappingChangeDeps,
  written: (before: readonly RoleMapping[], organizationId: string | undefined) => void,
) {
  const { org, list, removeSubjects = false } = change;
  const handed = handOvers(await deps.mappings.preview(org, list), removeSubjects, deps);
  const record = await recordOf(change, deps);
  written(await deps.mappings.set(org, list), record?.id);
  await Promise.all(handed.map((one) => announceRemoval(one.proxy_iam_role_arn, removeSubjects, deps)));
  return { handed, warnings: await warningsFor(change, deps.mappings.current(), record, deps) };
}

/** What the change would do. Writes nothing. */
export async function previewChange(change: MappingChange, deps: MappingChangeDeps) {
  const { org, list, removeSubjects = false } = change;
  const [{ before, after }, records] = await Promise.all([deps.mappings.preview(org, list), deps.organizations.read()]);
  const effect = previewMappings({
    before,
    after,
    org,
    requests: { ...deps, isRevoked: deps.revocations.isRevoked },
    statuses: [...deps.statuses.all()].map(({ status }) => status),
    namespace: deps.config.computeNamespace,
    scope: deps.trustScope(),
  });
  const warnings = list ? await warningsFor({ ...change, list }, after, records.get(org), deps) : [];
  const codes = new Set(warnings.map(({ code }) => code));
  // A role that IAM does not have fits no run, and the capacity of a role that could not be read is not known.
  const known = codes.has('role_not_checked') ? null : effect.fits;
  const fits = codes.has('role_not_found') ? false : effect.fits && known;
  const handed = handOvers({ before, after }, removeSubjects, deps);
  return { dry_run: true, domino_org: org, role_data: list ?? [], ...effect, fits, handed_over: handed, warnings };
}

/** @param removed whether the leader removes the service accounts before the roles become unmanaged. */
function handOvers(change: { before: Mappings; after: Mappings }, removed: boolean, { statuses }: MappingChangeDeps) {
  return handedOver(change, (arn) => statuses.get(arn)?.status).map((one) => ({ ...one, removed }));
}

/** Tells the leader, by an annotation of the role's status. @throws ApiError `kubernetes_unavailable` */
async function announceRemoval(arn: string, removed: boolean, deps: MappingChangeDeps): Promise<void> {
  // Where the leader deleted the status in the meantime, the role had no members.
  await orUnavailable(() => unlessMissing(() => setRemoval(deps, arn, removed)));
}

/** The organization that the name stands for. Where none is on record, the administrator's own of that name is recorded. */
async function recordOf({ org, by }: MappingChange, deps: MappingChangeDeps): Promise<OrganizationRecord | undefined> {
  const [id, ...more] = by.organizationIds.get(org) ?? [];
  if (id === undefined || more.length > 0) return (await deps.organizations.read()).get(org);
  // Recorded before the mapping, so that no member of another organization of this name can ask first.
  return (await deps.organizations.pin(new Map([[org, id]]), by.name)).get(org);
}

async function warningsFor(
  { org, list, by }: MappingChange & { list: readonly RoleMapping[] },
  after: Mappings,
  record: OrganizationRecord | undefined,
  deps: MappingChangeDeps,
) {
  const proxies = new Set(list.map(({ proxy_iam_role_arn: arn }) => arn));
  const known = await deps.knownRoles([...proxies].filter((arn) => after.managedProxies.has(arn)));
  return mappingWarnings({ org, list, after, own: by.organizationIds.get(org) ?? [], record, known });
}

/** Refuses roles that Pod Identity gives to users: their trust policies have no capacity for runs. */
function podIdentityRoles(
  list: readonly RoleMapping[],
  path: string,
  { podIdentity }: MappingChangeDeps,
): FieldError[] {
  const users = [...(podIdentity?.identities.current().byUser.values() ?? [])];
  return list.flatMap((mapping, index) => {
    const user = users.find(({ iam_role_arn: role }) => role === mapping.proxy_iam_role_arn)?.domino_user;
    if (user === undefined) return [];
    const at = path === '/body' ? path : `${path}/${index}`;
    return [
      { path: `${at}/proxy_iam_role_arn`, message: `the Pod Identity role of user ${user}: use a role of its own` },
    ];
  });
}
