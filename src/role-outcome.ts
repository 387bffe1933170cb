/** Owns what a pass over a proxy role leaves on record: who is in, once IAM accepted, refused, or did not answer. */
import type { ProxyRole } from './assignments.ts';
import type { AwsError } from './aws-error.ts';
import type { PodTrust } from './pod-trust.ts';
import { type RoleMemory, remember } from './role-memory.ts';
import type { RolePassDeps } from './role-pass.ts';
import type { TrustPolicyView } from './trust-policy.ts';

/** How long a role that cannot be written takes nobody new, unless an admin's change or a comparison comes first. */
const errorMs = 15_000;

export type PassOutcome =
  /** What is wanted is what IAM says. */
  | { kind: 'done' }
  /** Something has to be written, and no write was budgeted: come again with one. */
  | { kind: 'needs_write' }
  /** Come again: something changed that another pass has to look at, at once or after so many milliseconds. */
  | { kind: 'again'; afterMs: number }
  | { kind: 'failed'; error: AwsError };

/** A write that went out and did not come back well. */
export class Attempted extends Error {
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

/** IAM has accepted (or shown) a document with just these members in. */
export function accept(
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
export function acceptPods(
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

/** IAM, or the budget, said no, or nobody answered. @param attempted the write, where one went out. */
export function fail(
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
