/** Owns the second part of a Pod Identity: which roles trust the service account, and which must not any more. */
import { type PodIdentityOutcome, type PodIdentityReconcileDeps, refuse, refuseForRole, wait } from './outcome.ts';
import type { PodIdentityRecord } from './record.ts';

/** @returns undefined when the role of the mapping trusts the account, or is unmanaged. */
export async function ensureTrust(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  const { roleArn, sessionTags } = record.content;
  const isElsewhere = deps.isUnmanaged(roleArn);
  const roles = new Set(isElsewhere ? [] : [roleArn]);
  record.trustedBy = new Set([...record.trustedBy].filter((role) => !deps.isUnmanaged(role)));
  // The old role keeps its trust for as long as the association names it.
  const before = record.association?.roleArn;
  if (before !== undefined && before !== roleArn && record.trustedBy.has(before)) roles.add(before);
  if (!roles.isSubsetOf(record.trustedBy)) {
    record.trustedBy = record.trustedBy.union(roles);
    await deps.publish(record);
  }
  // The old role cannot require tags that EKS does not send yet. It stays open only if a mapping opened it.
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

/** Once the association is as wanted: removes the trust of former roles, and closes a role that need not be open. */
export function removeOldTrust(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): PodIdentityOutcome {
  const { roleArn } = record.content;
  const wanted = new Set(deps.isUnmanaged(roleArn) ? [] : [roleArn]);
  const isOldRemoved = trustOnly(deps, record, wanted);
  const isIn = wanted.size === 0 || deps.trust.state(roleArn, record.account) === 'in';
  // All parts are as mapped; a person has to fix what unmanaged statements let in.
  const problem = deps.trust.problem(roleArn);
  if (isOldRemoved && isIn) return problem && wanted.size > 0 ? refuse(problem) : { kind: 'in_place' };
  const states = [...record.trustedBy.difference(wanted)].map((role) => deps.trust.state(role, record.account));
  const error = states.find((state) => typeof state === 'object');
  if (error) return refuseForRole(error);
  return wait('waiting_for_trust_policy', 'the trust policies of former roles are being written');
}

/** Makes no other roles than these trust the account. @returns whether no other does any more. */
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

/** Whether the role may still trust the account, as far as IAM has shown. */
function isStillIn(
  { trust, isUnmanaged }: PodIdentityReconcileDeps,
  { account }: PodIdentityRecord,
  role: string,
): boolean {
  if (isUnmanaged(role)) return false;
  const state = trust.state(role, account);
  // A deleted role trusts no account.
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
