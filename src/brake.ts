/** Owns the brake: who is not dropped for now, since dropping so many looks like a mistake. Invariant 3. */
import type { ProxyRole } from './assignments.ts';
import type { RoleMemory } from './role-memory.ts';
import type { RolePassDeps } from './role-pass.ts';
import type { TrustPolicyView } from './trust-policy.ts';

/**
 * Who is not dropped for now: a pass that would drop most of a role's members, or anybody where no pod seems to live,
 * asks the API server first.
 */
export async function heldBack(
  deps: RolePassDeps,
  role: ProxyRole,
  memory: RoleMemory,
  view: TrustPolicyView,
): Promise<ReadonlySet<string>> {
  const gone = (account: string) => !role.members.has(account) && !deps.keep(account);
  const dropped = [...view.accounts].filter((account) => gone(account) && !deps.assignments.isElsewhere(account, role));
  const few = dropped.length <= 10 || dropped.length * 2 <= view.accounts.size;
  const suspicious = dropped.length > 0 && deps.nothingLives();
  const released = !few && memory.brake !== undefined && (await deps.released(role, memory.brake.since));
  const held = (few && !suspicious) || released ? new Set<string>() : await deps.stillWanted(role, dropped);
  // A few of a cluster that has no pods are no alarm; they go when it has some, or their accounts go.
  if (held.size === 0 || few) return held;
  memory.brake = { since: memory.brake?.since ?? new Date(deps.clock.now()).toISOString(), held: [...held].sort() };
  const about = { role: role.arn, dropped: dropped.length, of: view.accounts.size, held: held.size };
  deps.log.warn(about, 'not dropping members that may still have live runs');
  return held;
}
