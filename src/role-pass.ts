/** Owns one pass over one proxy role: read its trust policy, edit it, write it, and say who is in. */
import type { Assignments, ProxyRole } from './assignments.ts';
import { callDeadline, type HeldLease } from './aws-call.ts';
import { AwsError } from './aws-error.ts';
import { heldBack } from './brake.ts';
import type { Budget } from './budget.ts';
import type { Clock } from './clock.ts';
import { type Drift, recordDrift } from './drift.ts';
import type { Iam } from './iam.ts';
import type { Log } from './log.ts';
import { type PodTrust, whoFits } from './pod-trust.ts';
import { findDrift, mayBeBefore, mayBeStale, type RoleMemory, remember } from './role-memory.ts';
import { Attempted, accept, acceptPods, fail, type PassOutcome } from './role-outcome.ts';
import {
  editTrustPolicy,
  readTrustPolicy,
  type TrustParts,
  type TrustPolicyEdit,
  type TrustPolicyView,
  type TrustScope,
} from './trust-policy.ts';

/** How long a quota that was learnt counts: it may have been raised. */
const learntMs = 10 * 60_000;

export interface RolePassDeps {
  iam: Iam;
  reads: Budget;
  writes: Budget;
  assignments: Assignments;
  scope: TrustScope;
  maxChars: number;
  clock: Clock;
  log: Log;
  lease: HeldLease;
  /** Whether the subjects of web identity in the role's document are ours to keep: an organization is mapped to it. */
  isProxy: (role: ProxyRole) => boolean;
  /** Whether a subject of ours for an account without a want stays: an earlier release put it there, and its run lives. */
  keep: (account: string) => boolean;
  /** Whether the cluster seems to have no pod at all: then nobody is dropped without a second look. */
  nothingLives: () => boolean;
  /** Of accounts about to be dropped: those that may belong in after all. Invariant 3. */
  stillWanted: (role: ProxyRole, accounts: readonly string[]) => Promise<ReadonlySet<string>>;
  /** Whether an administrator let go what the brake has held since then. */
  released: (role: ProxyRole, since: string) => Promise<boolean>;
  onWritten: (role: ProxyRole, added: number, removed: number) => void;
  /** After a write without an account that had to leave: the seconds since it had to. */
  onRevoked: (role: ProxyRole, seconds: number) => void;
  /** Somebody else changed the document. */
  onDrift: (role: ProxyRole, drift: Drift, pauseMs: number) => void;
}

export interface PassOptions {
  /** Whether a call of the write budget is taken for it; it is given back when there is nothing to write. */
  mayWrite: boolean;
  /** Whether somebody waits. */
  urgent: boolean;
}

/**
 * One pass. What to write is settled when the write is about to go out, so that all who came while the budget or the
 * read was waited for are in it.
 */
export async function passOver(
  deps: RolePassDeps,
  role: ProxyRole,
  memory: RoleMemory,
  how: PassOptions,
  signal: AbortSignal,
): Promise<PassOutcome> {
  try {
    return await attempt(deps, role, memory, how, signal);
  } catch (error) {
    if (how.mayWrite && !(error instanceof Attempted)) deps.writes.giveBack();
    const cause = error instanceof Attempted ? error.cause : error;
    if (!(cause instanceof AwsError)) throw cause;
    return fail(deps, role, memory, cause, error instanceof Attempted ? error : undefined);
  }
}

async function attempt(
  deps: RolePassDeps,
  role: ProxyRole,
  memory: RoleMemory,
  { mayWrite, urgent }: PassOptions,
  signal: AbortSignal,
): Promise<PassOutcome> {
  const { assignments, clock, scope } = deps;
  if (!(await deps.reads.take(urgent, signal))) throw new AwsError('not_holder', 'the tenure ended');
  const text = await deps.iam.getTrustPolicy(role.arn, callDeadline(deps));
  deps.reads.succeeded();
  const { pods } = role;
  const parts = { members: deps.isProxy(role), pods };
  const view = readTrustPolicy(scope, text, parts);
  if (view.kind === 'refused') throw new AwsError(view.code, view.detail);
  if (memory.learntAt !== undefined && clock.monotonic() - memory.learntAt > learntMs) {
    memory.maxChars = deps.maxChars;
    memory.learntAt = undefined;
  }
  assignments.setCapacity(role, view.room(memory.maxChars, deps.keep));
  noticeDrift(deps, role, memory, view);
  // Whom somebody else took out does not count as in, whatever becomes of the repair. Invariant 6.
  if (parts.members && !mayBeStale(memory, view.subjects, clock.monotonic())) {
    for (const name of role.accepted.keys()) if (!view.accounts.has(name)) role.accepted.delete(name);
  }

  const held = await heldBack(deps, role, memory, view);
  const keep = (account: string) => held.has(account) || deps.keep(account);
  const members = new Map(role.members);
  const editFor = (admitted: PodTrust | undefined) =>
    editTrustPolicy(scope, text, parts.members ? members.keys() : undefined, keep, memory.maxChars, admitted);
  const all = editFor(pods);
  // Who leaves is taken out, and what somebody else changed put right, also while others wait for room.
  const admitted = isFull(all) && pods ? whoFits(pods, role.acceptedPods, (some) => !isFull(editFor(some))) : pods;
  const edit = admitted === pods ? all : editFor(admitted);
  if (edit.kind === 'refused') throw new AwsError(edit.code, edit.detail);
  const written = { ...parts, pods: admitted };
  const pause = (memory.contested?.until ?? 0) - clock.monotonic();
  if (edit.kind === 'changed' && pause > 0 && !urgent) {
    if (mayWrite) deps.writes.giveBack();
    return { kind: 'again', afterMs: pause };
  }
  if (edit.kind === 'changed' || mayBeStale(memory, view.subjects, clock.monotonic())) {
    if (!mayWrite) return { kind: 'needs_write' };
    remember(memory, { subjects: view.subjects, at: clock.monotonic(), how: 'accepted' });
    await write(deps, role, edit, written);
    memory.writtenAt = new Date(clock.now()).toISOString();
  } else if (mayWrite) deps.writes.giveBack();
  remember(memory, {
    subjects: viewOf(scope, edit.document, written).subjects,
    at: clock.monotonic(),
    how: 'accepted',
  });
  memory.contested = undefined;
  // Not before: a pass that comes again with a write must still know that the brake was released.
  if (held.size === 0) memory.brake = undefined;
  memory.size = edit.size;
  memory.comparedAt = new Date(clock.now()).toISOString();
  const unreadMs = memory.unread ? mayBeBefore(memory, clock.monotonic()) : 0;
  memory.unread = unreadMs > 0;
  accept(deps, role, members, edit.kind === 'changed' ? view : undefined);
  acceptPods(deps, role, pods, admitted, edit.kind === 'changed');
  if (admitted !== pods && all.kind === 'refused')
    return fail(deps, role, memory, new AwsError(all.code, all.detail), undefined);
  if (role.error) {
    role.error = undefined;
    assignments.reconsider(role);
  }
  if (unreadMs > 0) return { kind: 'again', afterMs: unreadMs };
  if (held.size === 0) return { kind: 'done' };
  return { kind: 'again', afterMs: memory.brake ? 5_000 : 60_000 };
}

function isFull(edit: TrustPolicyEdit): boolean {
  return edit.kind === 'refused' && edit.code === 'trust_policy_full';
}

function viewOf(
  scope: TrustScope,
  document: string,
  parts: TrustParts,
): Pick<TrustPolicyView, 'subjects' | 'accounts'> {
  const view = readTrustPolicy(scope, document, parts);
  return view.kind === 'read' ? view : { subjects: new Set(), accounts: new Set() };
}

async function write(
  deps: RolePassDeps,
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

function noticeDrift(deps: RolePassDeps, role: ProxyRole, memory: RoleMemory, view: TrustPolicyView): void {
  const found = findDrift(memory, view.subjects, deps.clock.monotonic());
  if (!found) return;
  const pauseMs = recordDrift(memory, found, deps.clock);
  // Known from now on: the same edit is no second drift while its repair waits.
  remember(memory, { subjects: view.subjects, at: deps.clock.monotonic(), how: 'accepted' });
  deps.log.warn({ role: role.arn, ...memory.drift, pause_ms: pauseMs }, 'somebody else changed the trust policy');
  if (memory.drift) deps.onDrift(role, memory.drift, pauseMs);
}
