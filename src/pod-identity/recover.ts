/** Owns recovery at the start of a leader's term: from what the previous leader published, and from orphans that it left. */

import type { Mutation, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { ProxyRole } from '../proxy-roles/proxy-role.ts';
import { type Associations, userOf } from './association-client.ts';
import type { PodIdentities } from './mappings.ts';
import { podIdentityMutation, usersInRules } from './mutation-rules.ts';
import { contentOf, inheritRecord, newRecord, type PodIdentityRecord } from './record.ts';
import type { PodIdentityStatuses } from './status.ts';
import type { PodTrustKeeper } from './trust-client.ts';

export interface Inheritance {
  /** Keyed by service account; what is found is added. */
  records: Map<string, PodIdentityRecord>;
  identities: () => PodIdentities;
  statuses: Pick<PodIdentityStatuses, 'all'>;
  trust: PodTrustKeeper;
  role: (arn: string) => ProxyRole;
  roles: () => Iterable<ProxyRole>;
  mutation: Pick<Watched<Mutation>, 'get'>;
  accounts: Pick<Watched<ServiceAccount>, 'get' | 'values'>;
}

/** Whether no mapping gives the account to this user any more. A mapping that cannot be used leaves that open: false. */
export function isLeft({ account, user }: PodIdentityRecord, { byAccount, problems }: PodIdentities): boolean {
  return byAccount.get(account)?.domino_user !== user && !problems.has(user);
}

/** Restores the records from what the previous leader published, and changes nothing yet. */
export function takeOver(from: Inheritance): void {
  const { records, statuses, trust, role: roleOf } = from;
  const identities = from.identities();
  for (const { status } of statuses.all()) {
    const record = inheritRecord(status);
    const { account, trustedBy, content } = record;
    records.set(account, record);
    const isLeaving = isLeft(record, identities);
    // Whether a role is open is in its own status; without one, the content of the mapping decides.
    const isOpen = (role: string) =>
      roleOf(role).observed.pods?.open ?? (role === content.roleArn && !content.sessionTags);
    // A role may have dropped an account that is being removed: the role is compared, and the account is not added again.
    const isIn = (role: string) => !isLeaving || roleOf(role).observed.pods?.accounts.has(account) === true;
    trust.want(account, new Map([...trustedBy].filter(isIn).map((role) => [role, isOpen(role)])));
    for (const role of trustedBy) if (!isIn(role)) trust.check(role);
  }
  findLostStatuses(from);
  takeOverRoles(from);
}

/** A mapped account whose status was lost keeps the trust that the role's own status shows, and its entry in the Mutation. */
function findLostStatuses({ records, identities, trust, role: roleOf, mutation }: Inheritance): void {
  const given = usersInRules(mutation.get(podIdentityMutation)?.rules);
  for (const [account, mapping] of identities().byAccount) {
    if (records.has(account)) continue;
    const record = newRecord(account, mapping.domino_user, contentOf(mapping));
    record.isReady = given.get(mapping.domino_user) === account;
    records.set(account, record);
    const role = roleOf(mapping.iam_role_arn);
    if (!role.observed.pods?.accounts.has(account)) continue;
    trust.want(account, new Map([[role.arn, mapping.disable_session_tags]]));
  }
}

/**
 * Records accounts that only a role's status names, so that they are removed. An account whose own status does not name the
 * role is not added to it again: the role's status may be older.
 */
function takeOverRoles({ records, identities, trust, roles, accounts }: Inheritance): void {
  const unknown = new Map<string, Map<string, boolean>>();
  for (const { arn, desired } of roles()) {
    const { pods } = desired;
    for (const account of pods?.accounts ?? []) {
      if (records.has(account)) continue;
      unknown.set(account, (unknown.get(account) ?? new Map<string, boolean>()).set(arn, pods?.open ?? false));
    }
  }
  const isUnclear = [...identities().problems.values()].some(({ code }) => code === 'invalid_mapping');
  for (const [account, trusting] of unknown) {
    trust.want(account, trusting);
    // It may be the account of a mapping that cannot be read.
    if (isUnclear) continue;
    const [roleArn = ''] = trusting.keys();
    const content = { roleArn, targetRoleArn: undefined, sessionTags: true, policy: undefined };
    const record = newRecord(account, accounts.get(account)?.madeFor ?? '', content);
    record.trustedBy = new Set(trusting.keys());
    records.set(account, record);
  }
  for (const { arn, desired } of [...roles()]) if (desired.pods) trust.retry(arn);
}

/**
 * Finds associations and service accounts that this installation made, and that no mapping and no status names any more.
 * @param foreign ids of associations that this installation did not make, which are not described a second time.
 * @param found called with each service account that was put into the records.
 * @throws AwsError
 */
export async function findOrphans(
  { records, identities, trust, accounts }: Inheritance,
  associations: Pick<Associations, 'list' | 'describe' | 'isMadeHere'>,
  foreign: Set<string>,
  found: (account: string) => void,
): Promise<void> {
  for (const { id, serviceAccount: account } of await associations.list()) {
    const isKnown = () => records.has(account) || identities().byAccount.has(account);
    if (foreign.has(id) || isKnown()) continue;
    const orphan = await associations.describe(id);
    if (!orphan || isKnown()) continue;
    if (!associations.isMadeHere(orphan)) {
      foreign.add(id);
      continue;
    }
    const record = newRecord(account, userOf(orphan) ?? '', orphan);
    record.association = orphan;
    record.parts.association = true;
    record.trustedBy.add(orphan.roleArn);
    trust.want(account, new Map([[orphan.roleArn, !orphan.sessionTags]]));
    records.set(account, record);
    found(account);
  }
  // After the associations, which show more. It may be the account of a mapping that cannot be read.
  const { byAccount, problems } = identities();
  for (const { name, madeFor } of accounts.values()) {
    if (madeFor === undefined || byAccount.has(name) || records.has(name) || problems.has(madeFor)) continue;
    const content = { roleArn: '', targetRoleArn: undefined, sessionTags: true, policy: undefined };
    records.set(name, newRecord(name, madeFor, content));
    found(name);
  }
}
