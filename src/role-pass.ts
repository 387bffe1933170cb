/** Owns one pass over one proxy role: read its trust policy, edit it, write it, and say who is in. */
import type { Assignments, ProxyRole } from './assignments.ts';
import type { Budget } from './budget.ts';
import type { Clock } from './clock.ts';
import type { Iam } from './iam.ts';
import { IamError } from './iam.ts';
import type { Log } from './log.ts';
import { editTrustPolicy, readTrustPolicy, type TrustPolicyView, type TrustScope } from './trust-policy.ts';

/** How long IAM may show a document older than our last write; until then what it shows is not taken for granted. */
const staleReadMs = 60_000;
/** How long a role that cannot be written takes nobody new, unless an admin's change or a comparison comes first. */
const errorMs = 15_000;
const iamDeadlineMs = 5_000;

export interface RolePassDeps {
  iam: Iam;
  reads: Budget;
  writes: Budget;
  assignments: Assignments;
  scope: TrustScope;
  maxChars: number;
  clock: Clock;
  log: Log;
  lease: { holds(): boolean; holdsUntil(): number };
  /** Whether a subject of ours for an account without a want stays: an earlier release put it there, and its run lives. */
  keep: (account: string) => boolean;
  /** Of accounts about to be dropped: those that the API server, asked afresh, says belong in. Invariant 3. */
  stillWanted: (role: ProxyRole, accounts: readonly string[]) => Promise<ReadonlySet<string>>;
  onWritten: (role: ProxyRole, added: number, removed: number) => void;
}

/** What the last passes found, beside what the role should be. */
export interface RoleMemory {
  size: number;
  maxChars: number;
  writtenAt: string | undefined;
  comparedAt: string | undefined;
  /** Our last write: whose accounts, and when on the monotonic clock. */
  lastWrite: { accounts: ReadonlySet<string>; at: number } | undefined;
}

export interface PassOptions {
  /** Whether a call of the write budget is taken for it; it is given back when there is nothing to write. */
  mayWrite: boolean;
  /** Whether somebody waits. */
  urgent: boolean;
}

export type PassOutcome =
  /** What is wanted is what IAM says. */
  | { kind: 'done' }
  /** Something has to be written, and no write was budgeted: come again with one. */
  | { kind: 'needs_write' }
  /** Come again: something changed that another pass has to look at, at once or after so many milliseconds. */
  | { kind: 'again'; afterMs: number }
  | { kind: 'failed'; error: IamError };

export function newRoleMemory(maxChars: number): RoleMemory {
  return { size: 0, maxChars, writtenAt: undefined, comparedAt: undefined, lastWrite: undefined };
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
    if (!(cause instanceof IamError)) throw cause;
    return fail(deps, role, memory, cause, error instanceof Attempted ? error : undefined);
  }
}

/** A write that went out and did not come back well. */
class Attempted extends Error {
  readonly size: number;

  constructor(cause: IamError, size: number) {
    super('a write was attempted', { cause });
    this.size = size;
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
  if (!(await deps.reads.take(urgent, signal))) {
    throw new IamError('not_holder', 'the tenure ended');
  }
  const text = await deps.iam.getTrustPolicy(role.arn, deadline(deps, signal));
  deps.reads.succeeded();
  const view = readTrustPolicy(scope, text);
  if (view.kind === 'refused') throw new IamError(view.code, view.detail);
  assignments.setCapacity(role, view.room(memory.maxChars, deps.keep));

  const held = await heldBack(deps, role, view);
  const keep = (account: string) => held.has(account) || deps.keep(account);
  const members = new Map(role.members);
  const edit = editTrustPolicy(scope, text, members.keys(), keep, memory.maxChars);
  if (edit.kind === 'refused') throw new IamError(edit.code, edit.detail);
  const wanted = new Set([...members.keys(), ...[...view.accounts].filter(keep)]);
  const stale = edit.kind === 'unchanged' && mayBeStale(deps, memory, view);
  if (edit.kind === 'changed' || stale) {
    if (!mayWrite) return { kind: 'needs_write' };
    await write(deps, role, edit.document, edit.size, signal);
    memory.lastWrite = { accounts: wanted, at: clock.monotonic() };
    memory.writtenAt = new Date(clock.now()).toISOString();
  } else if (mayWrite) deps.writes.giveBack();
  memory.size = edit.size;
  memory.comparedAt = new Date(clock.now()).toISOString();
  accept(deps, role, members, edit.kind === 'changed' ? view : undefined);
  if (role.error) {
    role.error = undefined;
    assignments.reconsider(role);
  }
  return held.size > 0 ? { kind: 'again', afterMs: 5_000 } : { kind: 'done' };
}

async function write(deps: RolePassDeps, role: ProxyRole, document: string, size: number, signal: AbortSignal) {
  try {
    await deps.iam.updateTrustPolicy(role.arn, document, deadline(deps, signal), () => deps.lease.holds());
    deps.writes.succeeded();
  } catch (error) {
    throw error instanceof IamError ? new Attempted(error, size) : error;
  }
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
  if (!changed) return;
  const added = [...members.keys()].filter((account) => !changed.accounts.has(account));
  const removed = [...changed.accounts].filter((account) => !members.has(account) && !deps.keep(account));
  deps.onWritten(role, added.length, removed.length);
  deps.log.info({ role: role.arn, added, removed, members: members.size }, 'trust policy written');
}

/** Who is not dropped for now: a pass that would drop most of a role's members asks the API server first. */
async function heldBack(deps: RolePassDeps, role: ProxyRole, view: TrustPolicyView): Promise<ReadonlySet<string>> {
  const gone = (account: string) => !role.members.has(account) && !deps.keep(account);
  const dropped = [...view.accounts].filter((account) => gone(account) && !deps.assignments.isElsewhere(account, role));
  if (dropped.length <= 10 || dropped.length * 2 <= view.accounts.size) return new Set();
  const held = await deps.stillWanted(role, dropped);
  if (held.size > 0) {
    const about = { role: role.arn, dropped: dropped.length, of: view.accounts.size, held: held.size };
    deps.log.warn(about, 'not dropping members that the API server still has runs for');
  }
  return held;
}

/** Whether what IAM shows may be older than our last write, although it looks as wanted. */
function mayBeStale(deps: RolePassDeps, memory: RoleMemory, view: TrustPolicyView): boolean {
  const last = memory.lastWrite;
  if (!last || deps.clock.monotonic() - last.at > staleReadMs) return false;
  return last.accounts.size !== view.accounts.size || [...last.accounts].some((account) => !view.accounts.has(account));
}

/** IAM's deadline: our own, and in any case before the lease runs out. */
function deadline(deps: RolePassDeps, signal: AbortSignal): AbortSignal {
  const left = Math.min(iamDeadlineMs, deps.lease.holdsUntil() - deps.clock.monotonic());
  const late = new AbortController();
  void deps.clock.sleep(Math.max(0, left), signal).then(() => late.abort());
  return late.signal;
}

function fail(
  deps: RolePassDeps,
  role: ProxyRole,
  memory: RoleMemory,
  error: IamError,
  attempted: Attempted | undefined,
): PassOutcome {
  if (error.code === 'throttled') (attempted ? deps.writes : deps.reads).throttled();
  // Nobody knows whether a write without an answer took: what is read next is not taken for granted.
  if (attempted && error.transient) memory.lastWrite = { accounts: new Set(['?']), at: deps.clock.monotonic() };
  if (error.transient) return { kind: 'failed', error };
  if (error.code === 'trust_policy_full' && attempted) {
    // The quota is lower than configured: it is learnt, and whoever does not fit is placed anew.
    const named = error.quota !== undefined && error.quota < attempted.size ? error.quota : attempted.size - 1;
    deps.log.warn({ role: role.arn, configured: memory.maxChars, learnt: named }, 'the quota is lower than configured');
    memory.maxChars = named;
    return { kind: 'again', afterMs: 0 };
  }
  if (error.code === 'role_not_found') role.accepted = new Map();
  const at = new Date(deps.clock.now()).toISOString();
  const { code, message: detail, said } = error;
  role.error = { code, detail, said, at, until: deps.clock.monotonic() + errorMs };
  deps.log.warn({ role: role.arn, code, said, detail }, 'the trust policy of this proxy role cannot be kept');
  deps.assignments.reconsider(role);
  return { kind: 'failed', error };
}
