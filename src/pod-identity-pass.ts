/** Owns one pass over one service account with Pod Identity: its four parts are put in place, in order. */
import type { RoleError } from './assignments.ts';
import type { Associations } from './associations.ts';
import { AwsError } from './aws-error.ts';
import type { Clock } from './clock.ts';
import { recordDrift } from './drift.ts';
import type { Kubernetes, Pod, ServiceAccount } from './kubernetes.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import type { MutationKeeper } from './mutation-keeper.ts';
import type { PodIdentityMapping } from './pod-identities.ts';
import { bringAssociation, refuseForeign } from './pod-identity-association.ts';
import { podIdentityMutation } from './pod-identity-mutation.ts';
import { contentOf, type PodIdentityReason, type PodIdentityRecord, sameContent } from './pod-identity-record.ts';
import type { PodTrustKeeper } from './pod-trust-keeper.ts';
import type { PodIndex } from './runs.ts';

export interface PodIdentityPassDeps {
  associations: Associations;
  accounts: Pick<Watched<ServiceAccount>, 'get'>;
  pods: Pick<PodIndex, 'ofAccount'>;
  kubernetes: Pick<
    Kubernetes,
    'createServiceAccount' | 'getServiceAccount' | 'deleteServiceAccount' | 'listPodsOfAccount'
  >;
  trust: PodTrustKeeper;
  mutation: MutationKeeper;
  /** Whether somebody else keeps the role's trust policy. */
  isKeptElsewhere: (role: string) => boolean;
  /** What is about to be done is written down first, so that the next holder can finish or undo it. */
  publish: (record: PodIdentityRecord) => Promise<void>;
  mayWrite: () => boolean;
  onDrift: (record: PodIdentityRecord, pauseMs: number) => void;
  clock: Clock;
  log: Log;
}

export type PodIdentityOutcome =
  | { kind: 'in_place' }
  /** All is taken away. */
  | { kind: 'gone' }
  /** Something else has to happen first, which is told of; or time has to pass. */
  | { kind: 'waiting'; reason: PodIdentityReason; afterMs?: number }
  | { kind: 'refused'; reason: PodIdentityReason };

export const wait = (code: PodIdentityReason['code'], detail: string): PodIdentityOutcome => ({
  kind: 'waiting',
  reason: { code, detail },
});
export const refuse = (reason: PodIdentityReason): PodIdentityOutcome => ({ kind: 'refused', reason });
export const refuseForRole = ({ code, detail, said }: RoleError): PodIdentityOutcome =>
  refuse({ code: code as PodIdentityReason['code'], detail, said });

/**
 * Puts the parts in place, for a record that is of no other user any more: account, trust, association, and last the
 * Mutation, so that no pod is given an account that has no role yet.
 * @throws AwsError, KubernetesError: nothing is lost, another pass goes on from where this one ended.
 */
export async function bring(
  deps: PodIdentityPassDeps,
  record: PodIdentityRecord,
  mapping: PodIdentityMapping,
): Promise<PodIdentityOutcome> {
  const { account } = record;
  record.content = contentOf(mapping);
  const isNew = record.association === undefined;
  const taken = isNew ? refuseOthers(deps, record, deps.pods.ofAccount(account), mapping) : undefined;
  if (taken) return taken;
  // Not as it is to be, which is no doing of somebody else's.
  if (record.association && !sameContent(record.association, record.content)) {
    record.parts.association = false;
    record.state = 'pending';
  }

  const pause = await bringAccount(deps, record);
  if (pause > 0) return contested(pause);
  // Looked for first: where somebody else's stands in the way, the role and whoever has it are left as they are.
  const found = await deps.associations.find(account, record.association?.id);
  // The watch may be behind: who would get the role is looked at where it is. Where the role cannot be had as it seems, only
  // once it can, so that nobody is looked for again and again.
  const unseen = async () => refuseOthers(deps, record, await deps.kubernetes.listPodsOfAccount(account), mapping);
  const isHadSoon = typeof deps.trust.state(record.content.roleArn, account) !== 'object';
  const outcome =
    refuseForeign(deps, record, found) ??
    (isNew && isHadSoon ? await unseen() : undefined) ??
    (await bringTrust(deps, record)) ??
    (isNew && !isHadSoon ? await unseen() : undefined) ??
    (await bringAssociation(deps, record, found));
  if (!record.isReady) withhold(deps, record);
  if (outcome) return outcome;

  record.isReady = true;
  if (!deps.mutation.gives(account)) deps.mutation.sync();
  const isGiven = deps.mutation.gives(account);
  if (isGiven && !record.parts.mutation) audit(deps, record, 'given to new workloads');
  record.parts.mutation = isGiven;
  if (!isGiven) return waitForMutation(deps);
  return leaveOldRoles(deps, record);
}

function refuseOthers(
  deps: PodIdentityPassDeps,
  record: PodIdentityRecord,
  pods: readonly Pod[],
  { domino_user: user }: PodIdentityMapping,
): PodIdentityOutcome | undefined {
  const others = pods.filter(({ live, userName }) => live && userName !== user);
  if (others.length === 0) return undefined;
  withhold(deps, record);
  const detail = `service account ${record.account} is used by ${others.length} live pods that ${user} did not start, who would get the role`;
  return refuse({ code: 'name_taken', detail });
}

/** New workloads get the account no more, also under the next holder. */
export function withhold(deps: PodIdentityPassDeps, record: PodIdentityRecord): void {
  if (record.parts.mutation) audit(deps, record, 'not given to new workloads any more');
  record.isReady = false;
  record.parts.mutation = false;
  if (deps.mutation.gives(record.account)) deps.mutation.sync();
}

/** There is one Mutation, by name: of several installations that share the platform namespace, one can have it. */
function waitForMutation({ mutation }: PodIdentityPassDeps): PodIdentityOutcome {
  const keeper = mutation.keptBy();
  if (keeper === undefined) return wait('waiting_for_mutation', 'the Mutation is being written');
  const detail = `the installation of irsa-svc in namespace ${keeper} keeps the Mutation ${podIdentityMutation}`;
  return refuse({ code: 'mutation_conflict', detail });
}

/** @returns for how many milliseconds a repair has to wait: somebody keeps taking it away. */
async function bringAccount(deps: PodIdentityPassDeps, record: PodIdentityRecord): Promise<number> {
  if (deps.accounts.get(record.account) || (record.parts.service_account && (await isThere(deps, record)))) {
    record.parts.service_account = true;
    return 0;
  }
  const pause = record.parts.service_account ? drifted(deps, record, ['service account'], []) : pauseOf(deps, record);
  record.parts.service_account = false;
  if (pause > 0) return pause;
  try {
    if (!deps.mayWrite()) throw new AwsError('not_holder', 'the lease ran out');
    await deps.kubernetes.createServiceAccount(record.account, record.user);
    audit(deps, record, 'service account created');
  } catch (error) {
    // Somebody else was first, or the watch is behind: it is there.
    if (!(error instanceof KubernetesError) || error.kind !== 'conflict') throw error;
  }
  record.parts.service_account = true;
  return 0;
}

/** The watch may be behind our own creation of it. */
async function isThere({ kubernetes }: PodIdentityPassDeps, { account }: PodIdentityRecord): Promise<boolean> {
  try {
    await kubernetes.getServiceAccount(account);
    return true;
  } catch (error) {
    if (error instanceof KubernetesError && error.kind === 'not_found') return false;
    throw error;
  }
}

async function bringTrust(
  deps: PodIdentityPassDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  const { roleArn, sessionTags } = record.content;
  const isElsewhere = deps.isKeptElsewhere(roleArn);
  const roles = new Set(isElsewhere ? [] : [roleArn]);
  record.trustedBy = new Set([...record.trustedBy].filter((role) => !deps.isKeptElsewhere(role)));
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
function leaveOldRoles(deps: PodIdentityPassDeps, record: PodIdentityRecord): PodIdentityOutcome {
  const { roleArn } = record.content;
  const wanted = new Set(deps.isKeptElsewhere(roleArn) ? [] : [roleArn]);
  const isRid = trustOnly(deps, record, wanted);
  const isIn = wanted.size === 0 || deps.trust.state(roleArn, record.account) === 'in';
  if (isRid && isIn) return { kind: 'in_place' };
  const states = [...record.trustedBy.difference(wanted)].map((role) => deps.trust.state(role, record.account));
  const error = states.find((state) => typeof state === 'object');
  if (error) return refuseForRole(error);
  return wait('waiting_for_trust_policy', 'the trust policies of former roles are being written');
}

/** Has no other roles than these trust the account. @returns whether none does. */
export function trustOnly(
  deps: PodIdentityPassDeps,
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
export function isStillIn(
  { trust, isKeptElsewhere }: PodIdentityPassDeps,
  { account }: PodIdentityRecord,
  role: string,
): boolean {
  if (isKeptElsewhere(role)) return false;
  const state = trust.state(role, account);
  // A role that is gone trusts nobody.
  return typeof state === 'object' ? state.code !== 'role_not_found' : state !== 'out';
}

export function drifted(
  deps: PodIdentityPassDeps,
  record: PodIdentityRecord,
  missing: string[],
  extra: string[],
): number {
  const pause = recordDrift(record, { missing, extra }, deps.clock);
  const about = { service_account: record.account, missing, extra, pause_ms: pause };
  deps.log.warn(about, 'somebody else changed what Pod Identity needs');
  deps.onDrift(record, pause);
  return pause;
}

export function pauseOf({ clock }: PodIdentityPassDeps, { contested: since }: PodIdentityRecord): number {
  return Math.max(0, (since?.until ?? 0) - clock.monotonic());
}

export function contested(pause: number): PodIdentityOutcome {
  const reason = { code: 'contested', detail: 'somebody else keeps changing it, so the repair waits' } as const;
  return { kind: 'waiting', reason, afterMs: pause };
}

export function audit({ log }: PodIdentityPassDeps, record: PodIdentityRecord, change: string): void {
  const { account, user, content, association } = record;
  const about = { audit: 'pod_identity', change, user, service_account: account, role: content.roleArn };
  const target = content.targetRoleArn === undefined ? {} : { target_role: content.targetRoleArn };
  log.info({ ...about, ...target, association: association?.id }, `Pod Identity: ${change}`);
}
