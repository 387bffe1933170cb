/** Owns the placing of one run's accounts on proxy roles, given what the roles hold. Pure. */
import type { Mappings } from './mappings.ts';
import { type Candidate, place } from './placement.ts';
import type { PodTrust } from './pod-trust.ts';
import { memberCost } from './subjects.ts';
import type { RefusedWant } from './trust-status.ts';
import type { Want } from './wants.ts';

/** A proxy role as the writer knows it. */
export interface ProxyRole {
  readonly arn: string;
  /** Service account -> the id of the want for which it belongs in. */
  readonly members: Map<string, string>;
  /** Who was a member and is to leave, since when on the monotonic clock. */
  readonly leaving: Map<string, number>;
  /** Wants that none of their proxies can take, kept with the first of them. */
  refused: RefusedWant[];
  /** What IAM last accepted: account -> want and since when. */
  accepted: Map<string, { want: string; since: string }>;
  /** Whom EKS Pod Identity is to assume it for; undefined: no Pod Identity mapping names it, and nothing is left of one. */
  pods: PodTrust | undefined;
  /** What of that IAM last accepted. */
  acceptedPods: PodTrust | undefined;
  /** The `pods` that a pass ended with: all who were to go have gone, also where not all who came have room. */
  settledPods: PodTrust | undefined;
  /** Characters for members in all; Infinity until the document was read. */
  capacity: number;
  /** Why it takes nobody new, until when on the monotonic clock. */
  error: RoleError | undefined;
}

export interface RoleError {
  code: string;
  /** For users. */
  detail: string;
  /** IAM's own words, for administrators. */
  said?: string | undefined;
  at: string;
  until: number;
}

/** The accounts of one run: they are placed together, since one config file names one proxy role for a target. */
export interface Group {
  accounts: Map<string, Want>;
  /** Role -> the accounts of the group that belong in it. */
  placed: Map<string, Set<string>>;
  /** The roles that any target of the group could go to. */
  candidates: Set<string>;
  refusedAt: Set<string>;
  /** Whether something was refused for want of room. */
  full: boolean;
}

/** What a placing depends on. */
export interface Around {
  role: (arn: string) => ProxyRole;
  mappings: Mappings;
  namespace: string;
  /** Monotonic milliseconds. */
  now: number;
}

export interface GroupPlaces {
  /** Role -> the accounts of the group that belong in it. */
  placed: Map<string, Set<string>>;
  refused: { role: string; full: boolean; entry: RefusedWant }[];
  candidates: Set<string>;
}

export function newGroup(): Group {
  return { accounts: new Map(), placed: new Map(), candidates: new Set(), refusedAt: new Set(), full: false };
}

/** The characters that a role has left for members. */
export function roomIn(role: ProxyRole, namespace: string): number {
  return role.capacity - costOf(role.members.keys(), namespace);
}

function costOf(names: Iterable<string>, namespace: string): number {
  return [...names].reduce((sum, name) => sum + memberCost(namespace, name), 0);
}

/** Where the accounts of a run go for each target, and what they cannot have. */
export function placeGroup(group: Group, around: Around): GroupPlaces {
  const { role, mappings } = around;
  const placed: GroupPlaces['placed'] = new Map();
  const refused: GroupPlaces['refused'] = [];
  const candidates = new Set<string>();
  for (const [target, wanting] of byTarget(group)) {
    const allowed = wanting.proxies.filter(({ arn, org }) => mappings.allows(org, target, arn)).map(({ arn }) => arn);
    const arns = [...new Set(allowed)];
    for (const arn of arns) candidates.add(arn);
    const first = arns[0];
    // A want that no mapping allows is void: no place, and no reason to publish.
    if (first === undefined) continue;
    const tryPlace = (names: readonly string[]) => {
      const outcome = place(arns.map((arn) => candidate(group, role(arn), names, placed, around)));
      if (outcome.kind !== 'placed') return outcome;
      const there = placed.get(outcome.arn) ?? new Set();
      for (const name of names) there.add(name);
      placed.set(outcome.arn, there);
      return outcome;
    };
    const outcome = tryPlace(wanting.accounts);
    if (outcome.kind === 'placed') continue;
    // Those who are in stay, though others of the run cannot join them.
    const assigned = wanting.accounts.filter((name) => arns.some((arn) => group.placed.get(arn)?.has(name)));
    const accepted = wanting.accounts.filter((name) => arns.some((arn) => role(arn).accepted.has(name)));
    const staying = [assigned, accepted].find((names) => names.length > 0 && tryPlace(names).kind === 'placed') ?? [];
    for (const name of wanting.accounts.filter((one) => !staying.includes(one))) {
      const want = (group.accounts.get(name) as Want).id;
      const { code, detail, full } = outcome;
      refused.push({ role: first, full, entry: { account: name, want, target, code, detail } });
    }
  }
  return { placed, refused, candidates };
}

function candidate(
  group: Group,
  role: ProxyRole,
  names: readonly string[],
  placed: GroupPlaces['placed'],
  { namespace, now }: Around,
): Candidate {
  const placedHere = placed.get(role.arn) ?? new Set();
  const isIn = (name: string) =>
    group.placed.get(role.arn)?.has(name) || placedHere.has(name) || role.accepted.has(name);
  const inUse = (name: string) => role.members.has(name) || placedHere.has(name);
  const pending = [...placedHere].filter((name) => !role.members.has(name));
  const active = role.error && now < role.error.until ? role.error : undefined;
  // Who is in stays in, whatever goes wrong with later writes. Who may be out, after a write without an answer, is not.
  const settled = names.every((name) => (role.accepted.get(name)?.want ?? '') !== '');
  return {
    arn: role.arn,
    present: names.filter(isIn).length,
    room: roomIn(role, namespace) - costOf(pending, namespace),
    cost: costOf(
      names.filter((name) => !inUse(name)),
      namespace,
    ),
    error: settled ? undefined : active,
  };
}

/** Target -> the accounts that want it, and the candidate proxies of the latest want. */
function byTarget(group: Group) {
  const targets = new Map<string, { accounts: string[]; proxies: { arn: string; org: string }[]; at: string }>();
  for (const [name, want] of group.accounts) {
    for (const { target, proxies } of want.roles) {
      const known = targets.get(target);
      if (!known) targets.set(target, { accounts: [name], proxies, at: want.at });
      else {
        known.accounts.push(name);
        if (want.at > known.at) Object.assign(known, { proxies, at: want.at });
      }
    }
  }
  return targets;
}
