/** Owns recording what IAM accepted, showed or refused of a role's document: members, other parts, and the error. */

import { callDeadline } from '../aws/call.ts';
import { AwsError } from '../aws/error.ts';
import { roleTokenAudience } from '../lib/arn.ts';
import { readTrustPolicy, type TrustPolicyView } from '../trust-policy/document.ts';
import { parsePolicy, writePolicy } from '../trust-policy/json.ts';
import type { PodTrust } from '../trust-policy/pod-identity.ts';
import type { PodTrustProblem } from '../trust-policy/pod-identity-unmanaged.ts';
import { openSubjects } from '../trust-policy/reach.ts';
import { forgetPods, type ProxyRole, remember } from './proxy-role.ts';
import type { RoleReconcileDeps } from './reconcile.ts';
import { checkAudience, tokensRetryMs } from './role-tokens.ts';

/** How long a role with an error accepts no new members, unless a comparison or an administrator's change clears it earlier. */
const errorMs = 15_000;

type ReadingDeps = Pick<RoleReconcileDeps, 'scope' | 'log'>;

export type ReconcileOutcome =
  /** IAM has what is desired. `read`: a read showed it; otherwise it was only written. */
  | { kind: 'done'; read: boolean }
  /** A write is needed, and the rate limiter had granted none: reconcile again with one. */
  | { kind: 'needs_write' }
  /** Reconcile again after so many milliseconds: something changed that this pass did not cover. */
  | { kind: 'again'; afterMs: number }
  | { kind: 'failed'; error: AwsError };

/** A write that was sent, and that IAM refused or did not answer. */
export class Attempted extends Error {
  readonly size: number;
  /** What the document would have of ours, as in `TrustPolicyView`. */
  readonly subjects: ReadonlySet<string>;
  readonly accounts: ReadonlySet<string>;

  constructor(cause: AwsError, size: number, { subjects, accounts }: Pick<TrustPolicyView, 'subjects' | 'accounts'>) {
    super('a write was attempted', { cause });
    this.size = size;
    this.subjects = subjects;
    this.accounts = accounts;
  }
}

/**
 * Records that IAM accepted or showed a document with exactly these members.
 * @param inDocument all service accounts that our subjects in it let in.
 * @param changed the document before the write; undefined: it already was as desired.
 */
export function accept(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  members: Map<string, string>,
  inDocument: ReadonlySet<string>,
  changed: TrustPolicyView | undefined,
) {
  const now = new Date(deps.clock.now()).toISOString();
  const before = role.observed.members;
  role.observed.members = new Map(
    [...members].map(([account, want]) => [account, { want, since: before.get(account)?.since ?? now }]),
  );
  role.observed.others = inDocument.difference(members);
  for (const [account, since] of role.desired.leaving) {
    if (members.has(account)) continue;
    role.desired.leaving.delete(account);
    if (changed?.accounts.has(account)) deps.onRevoked((deps.clock.monotonic() - since) / 1000);
  }
  if (!changed) return;
  const added = [...members.keys()].filter((account) => !changed.accounts.has(account));
  const removed = [...changed.accounts].filter((account) => !members.has(account) && !deps.keep(account));
  deps.onWritten(added.length);
  deps.log.info({ role: role.arn, added, removed, members: members.size }, 'trust policy written');
}

/**
 * Records that IAM accepted or showed a document with exactly these service accounts of EKS Pod Identity.
 * @param desired as it was when the document was made.
 */
export function acceptPods(
  { clock, log }: RoleReconcileDeps,
  role: ProxyRole,
  { pods, generation }: Pick<ProxyRole['desired'], 'pods' | 'generation'>,
  admitted: PodTrust | undefined,
  changed: boolean,
): void {
  role.observed.pods = admitted?.accounts.size === 0 ? undefined : admitted;
  role.observed.generation = generation;
  // The document has no service account left, and the desired ones did not change meanwhile.
  if (role.desired.generation === generation && admitted === pods) role.desired.pods = role.observed.pods;
  if (!changed || !admitted) return;
  role.observed.podsWrittenAt = clock.now();
  log.info({ role: role.arn, pod_identities: [...admitted.accounts] }, 'trust policy for Pod Identity written');
}

/** Records and logs the problem that unmanaged statements of the document cause for Pod Identity, if any. */
export function notePods({ log }: RoleReconcileDeps, role: ProxyRole, problem: PodTrustProblem | undefined): void {
  const isNew = problem !== undefined && problem.detail !== role.conditions.podsProblem?.detail;
  role.conditions.podsProblem = problem;
  if (isNew) log.warn({ role: role.arn, ...problem }, 'a person has to fix the trust policy of this role');
}

/** Records a failed reconcile: IAM refused or did not answer, or no call was granted. @param attempted the write, if sent. */
export function fail(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  error: AwsError,
  attempted: Attempted | undefined,
): ReconcileOutcome {
  const { clock, log } = deps;
  if (error.code === 'throttled') (attempted ? deps.writes : deps.reads).throttled();
  if (error.transient) {
    // A write without an answer may have taken effect or not.
    if (attempted) {
      remember(role, { subjects: attempted.subjects, at: clock.monotonic(), how: 'lost' });
      // The service accounts that it removed may still be members: they stay on record, for no request.
      for (const [name, known] of role.observed.members) {
        if (!attempted.accounts.has(name)) role.observed.members.set(name, { ...known, want: '' });
      }
      role.observed.others = role.observed.others.union(attempted.accounts).difference(role.observed.members);
    }
    return { kind: 'failed', error };
  }
  if (error.code === 'trust_policy_full' && attempted) {
    // The quota is lower than configured: it is recorded, and the service accounts that do not fit are placed again.
    const named = error.quota !== undefined && error.quota < attempted.size ? error.quota : attempted.size - 1;
    log.warn(
      { role: role.arn, configured: role.observed.maxChars, learnt: named },
      'the quota is lower than configured',
    );
    role.observed.maxChars = named;
    role.observed.learntAt = clock.monotonic();
    return { kind: 'again', afterMs: 0 };
  }
  if (error.code === 'role_not_found') {
    role.observed.members = new Map();
    role.observed.others = new Set();
    role.observed.document = undefined;
    forgetPods(role);
    role.observed.tokens = undefined;
  }
  // Members stay members, also for a newer request: no write has removed them.
  for (const [name, want] of role.desired.members) {
    const known = role.observed.members.get(name);
    if (known && known.want !== '') role.observed.members.set(name, { ...known, want });
  }
  const at = new Date(clock.now()).toISOString();
  const { code, message: detail, said } = error;
  role.conditions.error = { code, detail, said, at, until: clock.monotonic() + errorMs };
  log.warn({ role: role.arn, code, said, detail }, 'the trust policy of this proxy role cannot be kept');
  deps.placements.reconsider(role);
  return { kind: 'failed', error };
}

/**
 * Reads a role that has become unmanaged, and records which service accounts our subjects in it still let in. The role is
 * never written.
 */
export async function observeUnmanaged(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  signal: AbortSignal,
): Promise<ReconcileOutcome> {
  try {
    if (!(await deps.reads.take(false, signal))) throw new AwsError('not_holder', 'the term ended');
    const text = await deps.iam.getTrustPolicy(role.arn, callDeadline(deps));
    deps.reads.succeeded();
    const view = readTrustPolicy(deps.scope, text);
    if (view.kind === 'refused') throw new AwsError(view.code, view.detail);
    role.conditions.unread = false;
    role.observed.comparedAt = new Date(deps.clock.now()).toISOString();
    role.conditions.error = undefined;
    noticeMembers(deps, role, text, view);
    role.conditions.tokensProblem = await checkAudience(deps, role, role.desired.tokens);
    return role.conditions.tokensProblem ? { kind: 'again', afterMs: tokensRetryMs } : { kind: 'done', read: true };
  } catch (error) {
    if (!(error instanceof AwsError)) throw error;
    return fail(deps, role, error, undefined);
  }
}

/** Brings the recorded members in line with what IAM shows, whether or not a repair succeeds. Invariant 6. */
export function noticeMembers(
  deps: ReadingDeps,
  role: ProxyRole,
  text: string,
  { accounts, settled }: Pick<TrustPolicyView, 'accounts' | 'settled'>,
): void {
  for (const [name, known] of role.observed.members) {
    if (!accounts.has(name)) role.observed.members.delete(name);
    // An externally altered statement may let it in or not: it stays on record, for no request.
    else if (!settled.has(name)) role.observed.members.set(name, { ...known, want: '' });
  }
  role.observed.others = accounts.difference(role.observed.members);
  noticeOpen(deps, role, text);
}

/** Records the document. Logs unmanaged subjects that let in more than one account, but only when they changed. */
export function noticeOpen({ scope, log }: ReadingDeps, role: ProxyRole, text: string) {
  const policy = parsePolicy(text);
  // IAM may show much white space, which would only fill the ConfigMap.
  role.observed.document = typeof policy === 'string' ? text : writePolicy(policy);
  const open = openSubjects(scope, text, roleTokenAudience(role.arn));
  const now = open.length === 0 ? undefined : JSON.stringify(open);
  if (now === role.observed.open) return;
  role.observed.open = now;
  const about = { role: role.arn, open_subjects: open };
  if (now === undefined) log.info(about, 'the trust policy lets in only its members again');
  else log.warn(about, 'the trust policy lets in more than its members, by subjects that irsa-svc did not write');
}
