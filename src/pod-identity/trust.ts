/** Owns the second part of a Pod Identity: which roles trust the service account, and which do no more. */
import { type PodIdentityOutcome, type PodIdentityReconcileDeps, refuse, refuseForRole, wait } from './outcome.ts';
import type { PodIdentityRecord } from './record.ts';

/** @returns undefined when the role of the mapping trusts the account, or another keeps that. */
export async function ensureTrust(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  const { roleArn, sessionTags } = record.content;
  const isElsewhere = deps.isUnmanaged(roleArn);
  const roles = new Set(isElsewhere ? [] : [roleArn]);
  record.trustedBy = new Set([...record.trustedBy].filter((role) => !deps.isUnmanaged(role)));
  // The old role trusts the account for as long as the association says so.
  const before = record.association?.roleArn;
  if (before !== undefined && before !== roleArn && record.trustedBy.has(before)) roles.add(before);
  if (!roles.isSubsetOf(record.trustedBy)) {
    record.trustedBy = record.trustedBy.union(roles);
    await deps.publish(record);
  }
  // Tags that are not sent yet cannot be asked for. It opens no role that no mapping opened.
  const isOpen = (role: string) =>
    (role === roleArn && !sessionTags) ||
    (role === before && record.association?.sessionTags === false && deps.trust.isOpen(role, record.account));
  deps.trust.want(record.account, new Map([...roles].map((role) => [role, isOpen(role)])));
  if (isElsewhere) {
    record.parts.trust_policy = 'kept_elsewhere';
    return undefined;
  }
  const state = deps.trust.state(roleArn, record.account);
  record.parts.trust_policy = state === 'in';
  if (state === 'in') return undefined;
  if (typeof state === 'object') {
    return refuseForRole(state);
  }
  return wait('waiting_for_trust_policy', `the trust policy of ${roleArn} is being written`);
}

/** Roles that the account had before trust it no more, and none more than it needs, now that its association is so. */
export function removeOldTrust(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): PodIdentityOutcome {
  const { roleArn } = record.content;
  const wanted = new Set(deps.isUnmanaged(roleArn) ? [] : [roleArn]);
  const isRid = trustOnly(deps, record, wanted);
  const isIn = wanted.size === 0 || deps.trust.state(roleArn, record.account) === 'in';
  // What stands is as mapped; a person has to mend what other statements let in.
  const problem = deps.trust.problem(roleArn);
  if (isRid && isIn) return problem && wanted.size > 0 ? refuse(problem) : { kind: 'in_place' };
  const states = [...record.trustedBy.difference(wanted)].map((role) => deps.trust.state(role, record.account));
  const error = states.find((state) => typeof state === 'object');
  if (error) return refuseForRole(error);
  return wait('waiting_for_trust_policy', 'the trust policies of former roles are being written');
}

/** Has no other roles than these trust the account. @returns whether none does. */
export function trustOnly(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  wanted: ReadonlySet<string>,
  isOpen: (role: string) => boolean = () => !record.content.sessionTags,
): boolean {
  deps.trust.want(record.account, new Map([...wanted].map((role) => [role, isOpen(role)])));
  record.trustedBy = new Set([...record.trustedBy].filter((role) => wanted.has(role) || isStillIn(deps, record, role)));
  for (const role of record.trustedBy) if (!wanted.has(role)) deps.trust.retry(role);
  return record.trustedBy.isSubsetOf(wanted);
}

/** Whether the role may still trust the account, as far as IAM has told. */
function isStillIn(
  { trust, isUnmanaged }: PodIdentityReconcileDeps,
  { account }: PodIdentityRecord,
  role: string,
): boolean {
  if (isUnmanaged(role)) return false;
  const state = trust.state(role, account);
  // A role that is gone trusts nobody.
  return typeof state === 'object' ? state.code !== 'role_not_found' : state !== 'out';
}

/** @returns undefined when no role trusts the account. */
export function removeTrust(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): PodIdentityOutcome | undefined {
  if (trustOnly(deps, record, new Set())) {
    record.parts.trust_policy = false;
    return undefined;
  }
  const [left = ''] = record.trustedBy;
  const state = deps.trust.state(left, record.account);
  if (typeof state === 'object') return refuseForRole(state);
  return wait('waiting_for_trust_policy', `${left} still trusts the account`);
}
