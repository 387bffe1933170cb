/** Owns the assignment of service accounts to proxy roles, from requests, live pods, mappings and capacity. In memory, without I/O. */

import type { ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import { effectiveRequest } from '../runs/effective-request.ts';
import type { RoleRequest } from '../runs/role-request.ts';
import type { PodIndex } from '../runs/runs.ts';
import { newProxyRole, type ProxyRole } from './proxy-role.ts';
import { newRunPlacement, placeRun, type RunPlacement, roomIn } from './run-placement.ts';
import type { RefusedRequest } from './status.ts';

/** Why a role is reconciled: a member is to be added or removed, or just the published refusals changed. */
export type Change = 'add' | 'remove' | 'publish';

export interface PlacementsOptions {
  accounts: Pick<Watched<ServiceAccount>, 'get' | 'values'>;
  pods: Pick<PodIndex, 'ofAccount'>;
  mappings: () => Mappings;
  /** Whether an administrator revoked the run, so that its requests do not count. */
  isRevoked: (run: string) => boolean;
  computeNamespace: string;
  /** The quota of a trust policy, as configured. */
  maxChars: number;
  monotonic: () => number;
  /** Called for each role whose members or refusals changed. @param user the user that waits for it, if any. */
  onChange: (role: ProxyRole, change: Change, user?: string) => void;
}

export class Placements {
  private readonly options: PlacementsOptions;
  private readonly byArn = new Map<string, ProxyRole>();
  /** Keyed by user and run. */
  private readonly runs = new Map<string, RunPlacement>();
  /** Service account -> the key of its run. */
  private readonly runOf = new Map<string, string>();
  /** The keys of the runs that wait for capacity. */
  private readonly waiting = new Set<string>();

  constructor(options: PlacementsOptions) {
    this.options = options;
  }

  role(arn: string): ProxyRole {
    const found = this.byArn.get(arn) ?? newProxyRole(arn, this.options.maxChars);
    this.byArn.set(arn, found);
    return found;
  }

  roles(): Iterable<ProxyRole> {
    return this.byArn.values();
  }

  forget(arn: string): void {
    this.byArn.delete(arn);
  }

  /** Re-evaluates a service account, after its annotation or its pods changed. */
  account(name: string): void {
    const request = effectiveRequest(name, this.options);
    const before = this.runOf.get(name);
    // The user is part of the key, so that an annotation of another user with the same run id does not join the run.
    const key = request && JSON.stringify([request.user.id, request.run]);
    const old = before !== undefined && before !== key ? this.runs.get(before) : undefined;
    old?.accounts.delete(name);
    if (!request || key === undefined) {
      this.runOf.delete(name);
      if (before !== undefined) this.evaluate(before);
      return;
    }
    const run = this.runs.get(key) ?? newRunPlacement();
    this.runs.set(key, run);
    run.accounts.set(name, request);
    this.runOf.set(name, key);
    // Its places move with it from its old run to the new one, so that they are never free in between.
    for (const [arn, names] of old?.placed ?? []) {
      if (!names.delete(name)) continue;
      run.placed.set(arn, (run.placed.get(arn) ?? new Set<string>()).add(name));
    }
    for (const arn of old?.refusedAt ?? []) run.refusedAt.add(arn);
    this.evaluate(key);
    if (old && before !== undefined) this.evaluate(before);
  }

  /** Re-evaluates every service account, at the start and after the mappings changed. */
  all(): void {
    const { accounts } = this.options;
    // Members come first, so that no new request takes a member's place.
    const held = new Set([...this.roles()].flatMap(({ observed }) => [...observed.members.keys()]));
    for (const name of held) this.account(name);
    for (const { name, wanted } of accounts.values()) if (wanted !== undefined && !held.has(name)) this.account(name);
    for (const name of [...this.runOf.keys()]) if (!accounts.get(name)) this.account(name);
  }

  /** Of an account that is no member: whether the role is a candidate for its run, which has another role or was refused. */
  isElsewhere(name: string, role: ProxyRole): boolean {
    return this.runWith(name)?.candidates.has(role.arn) ?? false;
  }

  /** The roles that a service account belongs in. */
  rolesOf(name: string): ProxyRole[] {
    return [...this.roles()].filter(({ desired }) => desired.members.has(name));
  }

  /** Sets how many characters a role's document has for members; those that no longer fit are placed elsewhere or refused. */
  setCapacity(role: ProxyRole, capacity: number): void {
    const grown = capacity > role.observed.capacity;
    role.observed.capacity = capacity;
    if (this.roomOf(role) < 0) this.evict(role);
    else if (grown) this.retryWaiting(new Set([role.arn]));
  }

  /** Re-evaluates every run for which the role is a candidate, after the role's error was set or cleared. */
  reconsider(role: ProxyRole): void {
    for (const [key, run] of [...this.runs]) if (run.candidates.has(role.arn)) this.evaluate(key);
  }

  private runWith(name: string): RunPlacement | undefined {
    return this.runs.get(this.runOf.get(name) ?? '');
  }

  private roomOf(role: ProxyRole): number {
    return roomIn(role, this.options.computeNamespace);
  }

  /** Brings a run's places in line with what it requests now. */
  private evaluate(key: string): void {
    const run = this.runs.get(key);
    if (!run) return;
    const { mappings, computeNamespace: namespace, monotonic } = this.options;
    const around = { role: (arn: string) => this.role(arn), mappings: mappings(), namespace, now: monotonic() };
    const { placed, refused, candidates } = placeRun(run, around);
    run.candidates = candidates;
    const freed = this.applyPlaces(run, placed);
    this.applyRefusals(run, refused);
    run.placed = placed;
    run.full = refused.some(({ full }) => full);
    if (run.full) this.waiting.add(key);
    else this.waiting.delete(key);
    if (run.accounts.size === 0) this.runs.delete(key);
    if (freed.size > 0) this.retryWaiting(freed);
  }

  /** @returns the roles that have more free capacity than before. */
  private applyPlaces(run: RunPlacement, placed: Map<string, Set<string>>): Set<string> {
    const { monotonic, onChange } = this.options;
    const freed = new Set<string>();
    for (const [arn, names] of run.placed) {
      const role = this.role(arn);
      for (const name of names) {
        // A service account that has moved to another run took its places with it.
        const elsewhere = this.runOf.has(name) && !run.accounts.has(name);
        if (placed.get(arn)?.has(name) || elsewhere || !role.desired.members.delete(name)) continue;
        freed.add(arn);
        role.desired.leaving.set(name, monotonic());
        onChange(role, 'remove');
      }
    }
    for (const [arn, names] of placed) {
      const role = this.role(arn);
      for (const name of names) {
        const { id, user } = run.accounts.get(name) as RoleRequest;
        if (role.desired.members.get(name) === id) continue;
        role.desired.members.set(name, id);
        role.desired.leaving.delete(name);
        onChange(role, 'add', user.id);
      }
    }
    return freed;
  }

  private applyRefusals(run: RunPlacement, refused: { role: string; entry: RefusedRequest }[]): void {
    const names = new Set(run.accounts.keys());
    const touched = new Set([...run.refusedAt, ...refused.map((one) => one.role)]);
    for (const arn of touched) {
      const role = this.role(arn);
      const { conditions } = role;
      const others = conditions.refused.filter(({ account }) => !names.has(account) && this.runOf.has(account));
      const own = refused.filter((one) => one.role === arn).map((one) => one.entry);
      const next = [...others, ...own];
      if (JSON.stringify(next) === JSON.stringify(conditions.refused)) continue;
      conditions.refused = next;
      this.options.onChange(role, 'publish');
    }
    run.refusedAt = new Set(refused.map((one) => one.role));
  }

  /** Places the runs that wait for capacity in these roles, the longest waiting first. */
  private retryWaiting(freed: ReadonlySet<string>): void {
    const since = (key: string) =>
      [...(this.runs.get(key)?.accounts.values() ?? [])].map(({ at }) => at).sort()[0] ?? '';
    const keys = [...this.waiting].filter((key) => [...freed].some((arn) => this.runs.get(key)?.candidates.has(arn)));
    for (const key of keys.sort((a, b) => (since(a) < since(b) ? -1 : 1))) this.evaluate(key);
  }

  /** Removes members, the newest first, until the remaining ones fit. */
  private evict(role: ProxyRole): void {
    const { desired, observed } = role;
    const askedAt = (name: string) => this.runWith(name)?.accounts.get(name)?.at ?? '';
    const since = (name: string) => observed.members.get(name)?.since ?? `9${askedAt(name)}`;
    const latestFirst = [...desired.members.keys()].sort((a, b) => (since(a) > since(b) ? -1 : 1));
    for (const name of latestFirst) {
      if (this.roomOf(role) >= 0) break;
      const key = this.runOf.get(name);
      const run = key === undefined ? undefined : this.runs.get(key);
      if (key === undefined || !run) continue;
      for (const member of run.placed.get(role.arn) ?? []) {
        desired.members.delete(member);
        observed.members.delete(member);
      }
      run.placed.delete(role.arn);
      this.evaluate(key);
    }
    if (this.roomOf(role) > 0) this.retryWaiting(new Set([role.arn]));
  }
}
