/** Owns one reconcile of a proxy role: reads its trust policy, edits it, writes it, and records the members. */

import { callDeadline, type HeldLease } from '../aws/call.ts';
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { RateLimiter } from '../aws/rate-limiter.ts';
import { type Drift, reportDrift } from '../reconcile/drift.ts';
import {
  editTrustPolicy,
  readTrustPolicy,
  type TrustParts,
  type TrustPolicyEdit,
  type TrustPolicyView,
  type TrustScope,
} from '../trust-policy/document.ts';
import { type PodTrust, whoFits } from '../trust-policy/pod-identity.ts';
import type { TokenTrust } from '../trust-policy/role-tokens.ts';
import {
  Attempted,
  accept,
  acceptPods,
  fail,
  notePods,
  noticeMembers,
  noticeOpen,
  type ReconcileOutcome,
} from './observe.ts';
import type { Placements } from './placements.ts';
import { findDrift, mayBeBefore, mayBeStale, type ProxyRole, remember } from './proxy-role.ts';
import { heldBack, type RemovalGuardDeps } from './removal-guard.ts';
import {
  acceptTokens,
  checkAudience,
  confirmedTokens,
  fittingTokens,
  type RoleTokensDeps,
  roomBeside,
  tokensRetryMs,
  withoutTokens,
} from './role-tokens.ts';

/** How long a quota learnt from an error of IAM counts: it may have been raised since. */
const learntMs = 10 * 60_000;

export interface RoleReconcileDeps extends RemovalGuardDeps, RoleTokensDeps {
  iam: Iam;
  reads: RateLimiter;
  writes: RateLimiter;
  placements: Placements;
  scope: TrustScope;
  maxChars: number;
  lease: HeldLease;
  /** Whether this service manages the web identity subjects in the role's document: an organization is mapped to it. */
  isProxy: (role: ProxyRole) => boolean;
  /** Called after each write with how many service accounts it added. */
  onWritten: (added: number) => void;
  /** Called after a write removed a service account, with the seconds since its removal was due. */
  onRevoked: (seconds: number) => void;
  /** Called when the document was changed externally. */
  onDrift: (role: ProxyRole, drift: Drift, pauseMs: number) => void;
}

export interface PassOptions {
  /** Whether the rate limiter granted a write; it is given back when there is nothing to write. */
  mayWrite: boolean;
  /** Whether a client waits. */
  urgent: boolean;
  /** The users that wait. */
  callers?: ReadonlySet<string>;
  /** Whether all that is ours leaves the document, since the role is kept elsewhere from now on. */
  isHandedOver?: boolean;
}

/**
 * Reconciles the role once. The content of a write is decided after the read, so that it includes all changes that came
 * while the rate limiter and the read were waited for.
 */
export async function reconcileRole(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  how: PassOptions,
  signal: AbortSignal,
): Promise<ReconcileOutcome> {
  try {
    return await attempt(deps, role, how, signal);
  } catch (error) {
    if (how.mayWrite && !(error instanceof Attempted)) deps.writes.giveBack();
    const cause = error instanceof Attempted ? error.cause : error;
    if (!(cause instanceof AwsError)) throw cause;
    return fail(deps, role, cause, error instanceof Attempted ? error : undefined);
  }
}

async function attempt(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  { mayWrite, urgent, callers, isHandedOver = false }: PassOptions,
  signal: AbortSignal,
): Promise<ReconcileOutcome> {
  const { clock } = deps;
  const { observed, conditions } = role;
  if (!(await deps.reads.take(urgent, signal, callers))) throw new AwsError('not_holder', 'the term ended');
  const text = await deps.iam.getTrustPolicy(role.arn, callDeadline(deps));
  deps.reads.succeeded();
  const desired = { ...role.desired, ...(isHandedOver ? withoutTokens(role) : {}), isProxy: deps.isProxy(role) };
  const view = readTrustPolicy(deps.scope, text, { ...desired, members: desired.isProxy });
  if (view.kind === 'refused') throw new AwsError(view.code, view.detail);
  observeDocument(deps, role, text, view, desired);
  const held = await heldBack(deps, role, view);
  const tokens = isHandedOver ? desired.tokens : await confirmedTokens(deps, role, desired.tokens, view);
  const plan = planEdit(deps, role, { text, view, held, desired: { ...desired, tokens } });
  const { edit, parts } = plan;
  if (edit.kind === 'refused') throw new AwsError(edit.code, edit.detail);
  const pause = (conditions.contested?.until ?? 0) - clock.monotonic();
  if (edit.kind === 'changed' && pause > 0 && !urgent) {
    if (mayWrite) deps.writes.giveBack();
    return { kind: 'again', afterMs: pause };
  }
  const isWritten = edit.kind === 'changed' || mayBeStale(role, view.subjects, clock.monotonic());
  if (isWritten) {
    if (!mayWrite) return { kind: 'needs_write' };
    remember(role, { subjects: view.subjects, at: clock.monotonic(), how: 'accepted' });
    await write(deps, role, edit, parts);
    observed.writtenAt = new Date(clock.now()).toISOString();
  } else if (mayWrite) deps.writes.giveBack();
  const { subjects, accounts } = viewOf(deps.scope, edit.document, parts);
  remember(role, { subjects, at: clock.monotonic(), how: 'accepted' });
  conditions.contested = undefined;
  // Cleared only here: a reconcile that is repeated with a write must still know that the guard was released.
  if (held.size === 0) conditions.brake = undefined;
  observed.size = edit.size;
  observed.comparedAt = new Date(clock.now()).toISOString();
  const unreadMs = conditions.unread ? mayBeBefore(role, clock.monotonic()) : 0;
  conditions.unread = unreadMs > 0;
  accept(deps, role, plan.members, desired.isProxy ? accounts : new Set(), edit.kind === 'changed' ? view : undefined);
  if (desired.isProxy) noticeOpen(deps, role, edit.document);
  acceptPods(deps, role, desired, parts.pods, edit.kind === 'changed');
  acceptTokens(role, parts.tokens);
  conditions.tokensProblem = plan.tokensProblem ?? (await checkAudience(deps, role, parts.tokens));
  if (plan.problem) return fail(deps, role, plan.problem, undefined);
  if (conditions.error) {
    conditions.error = undefined;
    deps.placements.reconsider(role);
  }
  if (unreadMs > 0) return { kind: 'again', afterMs: unreadMs };
  if (conditions.tokensProblem || tokens !== desired.tokens) return { kind: 'again', afterMs: tokensRetryMs };
  if (held.size === 0) return { kind: 'done', read: !isWritten };
  return { kind: 'again', afterMs: conditions.brake ? 5_000 : 60_000 };
}

/** Records what the document shows, before it is edited. */
function observeDocument(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  text: string,
  view: TrustPolicyView,
  desired: ProxyRole['desired'] & { isProxy: boolean },
): void {
  const { observed } = role;
  const now = deps.clock.monotonic();
  if (observed.learntAt !== undefined && now - observed.learntAt > learntMs) {
    observed.maxChars = deps.maxChars;
    observed.learntAt = undefined;
  }
  deps.placements.setCapacity(role, roomBeside(deps, role, text, view, desired));
  noticeDrift(deps, role, view);
  if (!desired.isProxy || mayBeStale(role, view.subjects, now)) return;
  noticeMembers(deps, role, text, view);
  observed.tokens = view.tokens;
}

interface Plan {
  edit: TrustPolicyEdit;
  members: Map<string, string>;
  /** The parts of the document that this service manages, as they are after the edit. */
  parts: TrustParts;
  /** Why the edit lacks some of the desired Pod Identity accounts. */
  problem: AwsError | undefined;
  tokensProblem: ProxyRole['conditions']['tokensProblem'];
}

/** Plans an edit that fits: removals and repairs of external changes go ahead, even where additions wait for capacity. */
function planEdit(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  from: {
    text: string;
    view: TrustPolicyView;
    held: ReadonlySet<string>;
    desired: ProxyRole['desired'] & { isProxy: boolean };
  },
): Plan {
  const { text, view, held, desired } = from;
  const keep = (account: string) => held.has(account) || deps.keep(account);
  const members = new Map(desired.members);
  const names = desired.isProxy ? [...members.keys()] : undefined;
  const edited = (pods: PodTrust | undefined, tokens: TokenTrust | undefined) =>
    editTrustPolicy(deps.scope, text, names, keep, role.observed.maxChars, pods, tokens);
  const fit = (some: TokenTrust) => !isFull(edited(desired.pods, some));
  const { tokens, problem: tokensProblem } = fittingTokens(role, desired.tokens, fit);
  notePods(deps, role, view.beside?.problem);
  const allowed = view.beside ? view.beside.allowed : desired.pods;
  const all = edited(allowed, tokens);
  const fits = (some: PodTrust) => !isFull(edited(some, tokens));
  const pods = isFull(all) && allowed ? whoFits(allowed, role.observed.pods, fits) : allowed;
  const leftOut = pods !== allowed && all.kind === 'refused' ? all : undefined;
  const stated = leftOut ?? (allowed === desired.pods ? undefined : view.beside?.problem);
  return {
    edit: pods === allowed ? all : edited(pods, tokens),
    members,
    parts: { members: desired.isProxy, pods, tokens },
    tokensProblem,
    problem: stated && new AwsError(stated.code, stated.detail),
  };
}

function isFull(edit: TrustPolicyEdit): boolean {
  return edit.kind === 'refused' && edit.code === 'trust_policy_full';
}

function viewOf(scope: TrustScope, document: string, parts: TrustParts) {
  const view = readTrustPolicy(scope, document, parts);
  return view.kind === 'read' ? view : { subjects: new Set<string>(), accounts: new Set<string>() };
}

async function write(
  deps: RoleReconcileDeps,
  role: ProxyRole,
  { document, size }: { document: string; size: number },
  parts: TrustParts,
): Promise<void> {
  try {
    await deps.iam.updateTrustPolicy(role.arn, document, callDeadline(deps), () => deps.lease.holds());
    deps.writes.succeeded();
  } catch (error) {
    throw error instanceof AwsError ? new Attempted(error, size, viewOf(deps.scope, document, parts)) : error;
  }
}

function noticeDrift(deps: RoleReconcileDeps, role: ProxyRole, view: TrustPolicyView): void {
  const found = findDrift(role, view.subjects, deps.clock.monotonic());
  if (!found) return;
  // Remembered, so that the same change is not reported again while its repair waits.
  remember(role, { subjects: view.subjects, at: deps.clock.monotonic(), how: 'accepted' });
  const onDrift = (drift: Drift, pauseMs: number) => deps.onDrift(role, drift, pauseMs);
  const message = 'the trust policy was changed externally';
  reportDrift(role.conditions, found, { ...deps, onDrift }, { role: role.arn }, message);
}
