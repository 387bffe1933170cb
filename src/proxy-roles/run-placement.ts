/** Owns the placement of one run's service accounts in proxy roles, given the members of the roles. Pure. */
import type { Mappings, ProxyChoice } from '../mappings/role-mappings.ts';
import type { RequestedRole, RoleRequest } from '../runs/role-request.ts';
import { memberCost } from '../trust-policy/subjects.ts';
import { type Candidate, place } from './pool.ts';
import type { ProxyRole } from './proxy-role.ts';
import type { RefusedRequest } from './status.ts';

/** The accounts of one run: they are placed together, since one config file names one proxy role for a target. */
export interface RunPlacement {
  accounts: Map<string, RoleRequest>;
  /** Role -> the accounts of the run that belong in it. */
  placed: Map<string, Set<string>>;
  /** The roles that any target of the run could go to. */
  candidates: Set<string>;
  refusedAt: Set<string>;
  /** Whether a request was refused for lack of capacity. */
  full: boolean;
}

/** What a placement depends on. */
export interface Around {
  role: (arn: string) => ProxyRole;
  mappings: Mappings;
  namespace: string;
  /** Monotonic milliseconds. */
  now: number;
}

export interface RunPlaces {
  /** Role -> the accounts of the run that belong in it. */
  placed: Map<string, Set<string>>;
  refused: { role: string; full: boolean; entry: RefusedRequest }[];
  candidates: Set<string>;
}

export function newRunPlacement(): RunPlacement {
  return { accounts: new Map(), placed: new Map(), candidates: new Set(), refusedAt: new Set(), full: false };
}

/** The characters that a role has left for members. */
export function roomIn(role: ProxyRole, namespace: string): number {
  return role.observed.capacity - costOf(role.desired.members.keys(), namespace);
}

/** The characters that these service accounts take in a document. */
export function costOf(names: Iterable<string>, namespace: string): number {
  return [...names].reduce((sum, name) => sum + memberCost(namespace, name), 0);
}

/** Places the accounts of a run for each target role, and lists the requests that are refused. */
export function placeRun(run: RunPlacement, around: Around): RunPlaces {
  const { role, mappings } = around;
  const placed: RunPlaces['placed'] = new Map();
  const refused: RunPlaces['refused'] = [];
  const candidates = new Set<string>();
  for (const [target, wanting] of byTarget(run)) {
    const arns = [...new Set(allowedProxies({ target, proxies: wanting.proxies }, mappings).map(({ arn }) => arn))];
    for (const arn of arns) candidates.add(arn);
    const first = arns[0];
    // A request that no mapping allows is void: no place, and no reason to publish.
    if (first === undefined) continue;
    const tryPlace = (names: readonly string[]) => {
      const outcome = place(arns.map((arn) => candidate(run, role(arn), names, placed, around)));
      if (outcome.kind !== 'placed') return outcome;
      const there = placed.get(outcome.arn) ?? new Set();
      for (const name of names) there.add(name);
      placed.set(outcome.arn, there);
      return outcome;
    };
    const outcome = tryPlace(wanting.accounts);
    if (outcome.kind === 'placed') continue;
    // Accounts that are members stay, although the run's other accounts do not fit beside them.
    const assigned = wanting.accounts.filter((name) => arns.some((arn) => run.placed.get(arn)?.has(name)));
    const accepted = wanting.accounts.filter((name) => arns.some((arn) => role(arn).observed.members.has(name)));
    const staying = [assigned, accepted].find((names) => names.length > 0 && tryPlace(names).kind === 'placed') ?? [];
    for (const name of wanting.accounts.filter((one) => !staying.includes(one))) {
      const want = (run.accounts.get(name) as RoleRequest).id;
      const { code, detail, full } = outcome;
      refused.push({ role: first, full, entry: { account: name, want, target, code, detail } });
    }
  }
  return { placed, refused, candidates };
}

/** The candidate proxy roles of a requested role that the mappings allow, in the order of the request. */
export function allowedProxies({ target, proxies }: RequestedRole, mappings: Pick<Mappings, 'allows'>): ProxyChoice[] {
  return proxies.filter(({ arn, org, org_id }) => mappings.allows(org, target, arn, org_id));
}

function candidate(
  run: RunPlacement,
  role: ProxyRole,
  names: readonly string[],
  placed: RunPlaces['placed'],
  { namespace, now }: Around,
): Candidate {
  const placedHere = placed.get(role.arn) ?? new Set();
  const isIn = (name: string) =>
    run.placed.get(role.arn)?.has(name) || placedHere.has(name) || role.observed.members.has(name);
  const inUse = (name: string) => role.desired.members.has(name) || placedHere.has(name);
  const pending = [...placedHere].filter((name) => !role.desired.members.has(name));
  const active = role.conditions.error && now < role.conditions.error.until ? role.conditions.error : undefined;
  // A role's error does not concern accounts that are all members of it, with no write in doubt.
  const settled = names.every((name) => (role.observed.members.get(name)?.want ?? '') !== '');
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

/** Target -> the accounts that want it, and the candidate proxies of the latest request. */
function byTarget(run: RunPlacement) {
  const targets = new Map<string, { accounts: string[]; proxies: ProxyChoice[]; at: string }>();
  for (const [name, request] of run.accounts) {
    for (const { target, proxies } of request.roles) {
      const known = targets.get(target);
      if (!known) targets.set(target, { accounts: [name], proxies, at: request.at });
      else {
        known.accounts.push(name);
        if (request.at > known.at) Object.assign(known, { proxies, at: request.at });
      }
    }
  }
  return targets;
}
