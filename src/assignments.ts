/** Owns who belongs in which proxy role, as wants, live pods, mappings and room say. In memory, no input or output. */
import { type Group, newGroup, type ProxyRole, placeGroup, roomIn } from './group.ts';
import type { ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Mappings } from './mappings.ts';
import { allStartedBy, type PodIndex } from './runs.ts';
import { isServiceAccountName } from './subjects.ts';
import type { RefusedWant } from './trust-status.ts';
import { askersOf, parseWant, type Want } from './wants.ts';

export type { ProxyRole, RoleError } from './group.ts';

/** Why a role is to be looked at: somebody waits, somebody is to go, or just the published reasons changed. */
export type Change = 'add' | 'remove' | 'publish';

export interface AssignmentsOptions {
  accounts: Pick<Watched<ServiceAccount>, 'get' | 'values'>;
  pods: Pick<PodIndex, 'ofAccount'>;
  mappings: () => Mappings;
  /** Whether an administrator shut the run out, so that no want of it counts. */
  revoked: (run: string) => boolean;
  computeNamespace: string;
  monotonic: () => number;
  /** Told of each role whose members or refusals changed. */
  onChange: (role: ProxyRole, change: Change) => void;
}

export interface Assignments {
  role(arn: string): ProxyRole;
  roles(): Iterable<ProxyRole>;
  forget(arn: string): void;
  /** Looks at an account anew, after its annotation or its pods changed. */
  account(name: string): void;
  /** Looks at every account anew, after the mappings changed or at the start. */
  all(): void;
  /** Whether the account's want could have the role, and has another one instead, or was refused. */
  isElsewhere(name: string, role: ProxyRole): boolean;
  /** The roles that an account is in. */
  rolesOf(name: string): ProxyRole[];
  /** Sets what a role's document has room for; who no longer fits is placed elsewhere or refused. */
  setCapacity(role: ProxyRole, capacity: number): void;
  /** Looks anew at every run that wants the role and is not in it: after an error came or went. */
  reconsider(role: ProxyRole): void;
}

export function createAssignments(options: AssignmentsOptions): Assignments {
  const { accounts, pods, mappings, computeNamespace: namespace } = options;
  const roles = new Map<string, ProxyRole>();
  const groups = new Map<string, Group>();
  /** Account -> the key of its group. */
  const groupOf = new Map<string, string>();
  const waiting = new Set<string>();

  function role(arn: string): ProxyRole {
    let found = roles.get(arn);
    if (!found) {
      const empty = { members: new Map(), leaving: new Map(), refused: [], accepted: new Map() };
      const noPods = { pods: undefined, acceptedPods: undefined, settledPods: undefined };
      found = { arn, ...empty, ...noPods, capacity: Infinity, error: undefined };
      roles.set(arn, found);
    }
    return found;
  }

  const roomOf = (at: ProxyRole) => roomIn(at, namespace);

  /** The want of an account, where it counts: a run that asked lives, and all pods are of the user who asked. */
  function wantOf(name: string): Want | undefined {
    const want = parseWant(accounts.get(name)?.wanted);
    if (!want || !isServiceAccountName(name)) return undefined;
    const live = pods.ofAccount(name);
    // AWS could not tell a revoked run from another one under the same account.
    if (options.revoked(want.run) || live.some(({ run }) => run !== undefined && options.revoked(run)))
      return undefined;
    // A later run of the same user on the same account has to ask itself.
    const askers = askersOf(want);
    const asked = live.some(({ run }) => run !== undefined && askers.has(run));
    return asked && allStartedBy(live, want.user.id) ? want : undefined;
  }

  function account(name: string): void {
    const want = wantOf(name);
    const before = groupOf.get(name);
    // A run id alone is not enough: the user is what counts, and nobody else's annotation may join a group.
    const key = want && JSON.stringify([want.user.id, want.run]);
    const old = before !== undefined && before !== key ? groups.get(before) : undefined;
    old?.accounts.delete(name);
    if (!want || key === undefined) {
      groupOf.delete(name);
      if (before !== undefined) evaluate(before);
      return;
    }
    const group = groups.get(key) ?? newGroup();
    groups.set(key, group);
    group.accounts.set(name, want);
    groupOf.set(name, key);
    // It takes its places along, so that nobody gets them between its old run and its new one.
    for (const [arn, names] of old?.placed ?? []) {
      if (!names.delete(name)) continue;
      group.placed.set(arn, (group.placed.get(arn) ?? new Set<string>()).add(name));
    }
    for (const arn of old?.refusedAt ?? []) group.refusedAt.add(arn);
    evaluate(key);
    if (old && before !== undefined) evaluate(before);
  }

  /** Brings a group's places in line with what it wants now. */
  function evaluate(key: string): void {
    const group = groups.get(key);
    if (!group) return;
    const around = { role, mappings: mappings(), namespace, now: options.monotonic() };
    const { placed, refused, candidates } = placeGroup(group, around);
    group.candidates = candidates;
    const freed = applyPlaces(group, placed);
    applyRefusals(group, refused);
    group.placed = placed;
    group.full = refused.some(({ full }) => full);
    if (group.full) waiting.add(key);
    else waiting.delete(key);
    if (group.accounts.size === 0) groups.delete(key);
    if (freed.size > 0) retryWaiting(freed);
  }

  /** @returns the roles that have more room than before. */
  function applyPlaces(group: Group, placed: Map<string, Set<string>>): Set<string> {
    const freed = new Set<string>();
    for (const [arn, names] of group.placed) {
      const at = role(arn);
      for (const name of names) {
        // Where the account now belongs to another group, that one says.
        const elsewhere = groupOf.has(name) && !group.accounts.has(name);
        if (placed.get(arn)?.has(name) || elsewhere || !at.members.delete(name)) continue;
        freed.add(arn);
        at.leaving.set(name, options.monotonic());
        options.onChange(at, 'remove');
      }
    }
    for (const [arn, names] of placed) {
      const at = role(arn);
      for (const name of names) {
        const { id } = group.accounts.get(name) as Want;
        if (at.members.get(name) === id) continue;
        at.members.set(name, id);
        at.leaving.delete(name);
        options.onChange(at, 'add');
      }
    }
    return freed;
  }

  function applyRefusals(group: Group, refused: { role: string; entry: RefusedWant }[]): void {
    const names = new Set(group.accounts.keys());
    const touched = new Set([...group.refusedAt, ...refused.map((one) => one.role)]);
    for (const arn of touched) {
      const at = role(arn);
      const others = at.refused.filter((entry) => !names.has(entry.account) && groupOf.has(entry.account));
      const ours = refused.filter((one) => one.role === arn).map((one) => one.entry);
      const next = [...others, ...ours];
      if (JSON.stringify(next) === JSON.stringify(at.refused)) continue;
      at.refused = next;
      options.onChange(at, 'publish');
    }
    group.refusedAt = new Set(refused.map((one) => one.role));
  }

  /** Whoever waits for room is placed when there is some, the longest waiting first. */
  function retryWaiting(freed: ReadonlySet<string>): void {
    const since = (key: string) =>
      [...(groups.get(key)?.accounts.values() ?? [])].map((want) => want.at).sort()[0] ?? '';
    const keys = [...waiting].filter((key) => [...freed].some((arn) => groups.get(key)?.candidates.has(arn)));
    for (const key of keys.sort((a, b) => (since(a) < since(b) ? -1 : 1))) evaluate(key);
  }

  function evict(at: ProxyRole): void {
    const askedAt = (name: string) => groups.get(groupOf.get(name) ?? '')?.accounts.get(name)?.at ?? '';
    const since = (name: string) => at.accepted.get(name)?.since ?? `9${askedAt(name)}`;
    const latestFirst = [...at.members.keys()].sort((a, b) => (since(a) > since(b) ? -1 : 1));
    for (const name of latestFirst) {
      if (roomOf(at) >= 0) break;
      const key = groupOf.get(name);
      const group = key === undefined ? undefined : groups.get(key);
      if (key === undefined || !group) continue;
      for (const member of group.placed.get(at.arn) ?? []) {
        at.members.delete(member);
        at.accepted.delete(member);
      }
      group.placed.delete(at.arn);
      evaluate(key);
    }
    if (roomOf(at) > 0) retryWaiting(new Set([at.arn]));
  }

  return {
    role,
    roles: () => roles.values(),
    forget: (arn) => {
      roles.delete(arn);
    },
    account,
    all: () => {
      // Who is in comes first, so that nobody new takes the place of somebody who has it.
      const held = new Set([...roles.values()].flatMap((at) => [...at.accepted.keys()]));
      for (const name of held) account(name);
      for (const { name, wanted } of accounts.values()) if (wanted !== undefined && !held.has(name)) account(name);
      for (const name of [...groupOf.keys()]) if (!accounts.get(name)) account(name);
    },
    isElsewhere: (name, at) => groups.get(groupOf.get(name) ?? '')?.candidates.has(at.arn) ?? false,
    rolesOf: (name) => [...roles.values()].filter(({ members }) => members.has(name)),
    setCapacity: (at, capacity) => {
      const grown = capacity > at.capacity;
      at.capacity = capacity;
      if (roomOf(at) < 0) evict(at);
      else if (grown) retryWaiting(new Set([at.arn]));
    },
    reconsider: (at) => {
      for (const [key, group] of [...groups]) if (group.candidates.has(at.arn)) evaluate(key);
    },
  };
}
