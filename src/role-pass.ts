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
import type { PodTrust } from './pod-trust.ts';
import { findDrift, mayBeStale, type RoleMemory, remember } from './role-memory.ts';
import {
  editTrustPolicy,
  readTrustPolicy,
  type TrustParts,
  type TrustPolicyEdit,
  type TrustPolicyView,
  type TrustScope,
} from './trust-policy.ts';

/** How long a role that cannot be written takes nobody new, unless an admin's change or a comparison comes first. */
const errorMs = 15_000;
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

export type PassOutcome =
  /** What is wanted is what IAM says. */
  | { kind: 'done' }
  /** Something has to be written, and no write was budgeted: come again with one. */
  | { kind: 'needs_write' }
  /** Come again: something changed that another pass has to look at, at once or after so many milliseconds. */
  | { kind: 'again'; afterMs: number }
  | { kind: 'failed'; error: AwsError };

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

/** A write that went out and did not come back well. */
class Attempted extends Error {
  readonly size: number;
  /** What it says of us. */
  readonly subjects: ReadonlySet<string>;
  readonly accounts: ReadonlySet<string>;

  constructor(cause: AwsError, size: number, { subjects, accounts }: Pick<TrustPolicyView, 'subjects' | 'accounts'>) {
    super('a write was attempted', { cause });
    this.size = size;
    this.subjects = subjects;
    this.accounts = accounts;
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
  memory.unread = false;
  accept(deps, role, members, edit.kind === 'changed' ? view : undefined);
  acceptPods(deps, role, pods, admitted, edit.kind === 'changed');
  if (admitted !== pods && all.kind === 'refused')
    return fail(deps, role, memory, new AwsError(all.code, all.detail), undefined);
  if (role.error) {
    role.error = undefined;
    assignments.reconsider(role);
  }
  if (held.size === 0) return { kind: 'done' };
  return { kind: 'again', afterMs: memory.brake ? 5_000 : 60_000 };
}

function isFull(edit: TrustPolicyEdit): boolean {
  return edit.kind === 'refused' && edit.code === 'trust_policy_full';
}

/** Of those who are wanted, who is in already, and of the others as many as have room; all where not even the first have. */
function whoFits(pods: PodTrust, before: PodTrust | undefined, fits: (some: PodTrust) => boolean): PodTrust {
  let found = { accounts: pods.accounts.intersection(before?.accounts ?? new Set<string>()), open: pods.open };
  if (!fits(found)) return pods;
  for (const account of pods.accounts.difference(found.accounts)) {
    const more = { accounts: new Set([...found.accounts, account]), open: pods.open };
    if (!fits(more)) break;
    found = more;
  }
  return found;
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

function viewOf(
  scope: TrustScope,
  document: string,
  parts: TrustParts,
): Pick<TrustPolicyView, 'subjects' | 'accounts'> {
  const view = readTrustPolicy(scope, document, parts);
  return view.kind === 'read' ? view : { subjects: new Set(), accounts: new Set() };
}

/** IAM has accepted (or shown) a document with just these members in. */
function accept(
  deps: RolePassDeps,
  role: ProxyRole,
  members: Map<string, string>,
  changed: TrustPolicyView | undefined,
) {
  const now = new Date(deps.clock.now()).toISOString();
  const before = role.accepted;
  role.accepted = new Map(
    [...members].map(([account, want]) => [account, { want, since: before.get(account)?.since ?? now }]),
  );
  for (const [account, since] of role.leaving) {
    if (members.has(account)) continue;
    role.leaving.delete(account);
    if (changed?.accounts.has(account)) deps.onRevoked(role, (deps.clock.monotonic() - since) / 1000);
  }
  if (!changed) return;
  const added = [...members.keys()].filter((account) => !changed.accounts.has(account));
  const removed = [...changed.accounts].filter((account) => !members.has(account) && !deps.keep(account));
  deps.onWritten(role, added.length, removed.length);
  deps.log.info({ role: role.arn, added, removed, members: members.size }, 'trust policy written');
}

/** IAM has accepted (or shown) a document with just these let in through EKS Pod Identity. */
function acceptPods(
  { log }: RolePassDeps,
  role: ProxyRole,
  pods: PodTrust | undefined,
  admitted: PodTrust | undefined,
  changed: boolean,
): void {
  role.acceptedPods = admitted?.accounts.size === 0 ? undefined : admitted;
  // Nothing is left of it, and nobody came meanwhile.
  if (role.pods === pods && admitted === pods) role.pods = role.acceptedPods;
  role.settledPods = admitted === pods ? role.acceptedPods : pods;
  if (changed && admitted)
    log.info({ role: role.arn, pod_identities: [...admitted.accounts] }, 'trust policy for Pod Identity written');
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

function fail(
  deps: RolePassDeps,
  role: ProxyRole,
  memory: RoleMemory,
  error: AwsError,
  attempted: Attempted | undefined,
): PassOutcome {
  const { clock, log } = deps;
  if (error.code === 'throttled') (attempted ? deps.writes : deps.reads).throttled();
  if (error.transient) {
    // Nobody knows whether a write without an answer took.
    if (attempted) {
      remember(memory, { subjects: attempted.subjects, at: clock.monotonic(), how: 'lost' });
      // Whom it took out may be in or out: on record as in, and for no want.
      for (const [name, known] of role.accepted) {
        if (!attempted.accounts.has(name)) role.accepted.set(name, { ...known, want: '' });
      }
    }
    return { kind: 'failed', error };
  }
  if (error.code === 'trust_policy_full' && attempted) {
    // The quota is lower than configured: it is learnt, and whoever does not fit is placed anew.
    const named = error.quota !== undefined && error.quota < attempted.size ? error.quota : attempted.size - 1;
    log.warn({ role: role.arn, configured: memory.maxChars, learnt: named }, 'the quota is lower than configured');
    memory.maxChars = named;
    memory.learntAt = clock.monotonic();
    return { kind: 'again', afterMs: 0 };
  }
  if (error.code === 'role_not_found') {
    role.accepted = new Map();
    role.acceptedPods = undefined;
    role.settledPods = undefined;
  }
  // Who is in stays in, also where a new want asks for the same: nothing has taken them out.
  for (const [name, want] of role.members) {
    const known = role.accepted.get(name);
    if (known && known.want !== '') role.accepted.set(name, { ...known, want });
  }
  const at = new Date(clock.now()).toISOString();
  const { code, message: detail, said } = error;
  role.error = { code, detail, said, at, until: clock.monotonic() + errorMs };
  log.warn({ role: role.arn, code, said, detail }, 'the trust policy of this proxy role cannot be kept');
  deps.assignments.reconsider(role);
  return { kind: 'failed', error };
}
