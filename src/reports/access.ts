/** Owns the reports to users on their roles: for each mapping, whether a run of theirs has the role, and if not, why. Pure. */

import { parseRoleArn } from '../lib/arn.ts';
import { isByToken, type Mappings, type RoleMapping } from '../mappings/role-mappings.ts';
import type { TrustStatus } from '../proxy-roles/status.ts';
import { askersOf, type HeldToken, type RoleRequest } from '../runs/role-request.ts';
import { adviceFor } from './advice.ts';
import { roomIn } from './trust.ts';

export interface AccessSources {
  caller: { id: string; orgs: readonly string[] };
  mappings: Mappings;
  status: (roleArn: string) => TrustStatus | undefined;
  /** The namespace that runs live in. */
  namespace: string;
  /** Organizations of the caller that do not count, with the reason: a part of a sentence. */
  refused: ReadonlyMap<string, string>;
}

/** A live run of the caller. */
export interface RunSeen {
  /** 24 hex digits. */
  id: string;
  accounts: {
    name: string;
    request: RoleRequest | undefined;
    /** Whether live pods of another user use it. */
    shared: boolean;
  }[];
  /** The sentence that reports an administrator's revocation, if there is one. */
  revoked: string | undefined;
}

export interface AccountAccess {
  service_account: string;
  in_trust_policy: boolean;
  since?: string;
}

export interface AccessEntry {
  domino_org: string;
  /** Whether the caller is a member of the organization. */
  member: boolean;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  /** Set where the role is given by a token, and not by an entry in the trust policy. */
  carrier?: 'token';
  code: string;
  /** The reason for the code. */
  reason: string;
  /** What to do about it. */
  advice: string;
  /** With a run: each of its accounts. */
  service_accounts?: AccountAccess[];
}

type Verdict = Pick<AccessEntry, 'code' | 'reason'>;
type Pair = { org: string; target: string; proxy: string; carrier?: 'token' };

/** The state of each of the caller's mappings, for the run, or in general where no run is given. */
export function accessReport(sources: AccessSources, run?: RunSeen): AccessEntry[] {
  const { caller, mappings } = sources;
  const pairs = [...mappings.byOrg]
    .filter(([org]) => caller.orgs.includes(org))
    .flatMap(([org, list]) => list.map((one) => pairOf(org, one)));
  const entries = unique(pairs).map((pair) => {
    const verdict = broken(pair, sources) ?? (run && shutOut(run)) ?? unmanaged(pair, sources);
    return entry(pair, verdict ?? (run ? forRun(pair, run, sources) : withoutRun(pair, sources)), sources, run);
  });
  const lost = run ? lostPairs(run, caller.id, pairs) : [];
  return [...entries, ...lost.map((pair) => entry(pair, whyLost(pair, caller.orgs), sources, run))];
}

function pairOf(org: string, mapping: RoleMapping): Pair {
  const pair = { org, target: mapping.iam_role_arn, proxy: mapping.proxy_iam_role_arn };
  return isByToken(mapping) ? { ...pair, carrier: 'token' } : pair;
}

const sameRole = (a: Pair, b: Pair) => a.org === b.org && a.target === b.target && a.proxy === b.proxy;
const same = (a: Pair, b: Pair) => sameRole(a, b) && a.carrier === b.carrier;

function unique(pairs: readonly Pair[]): Pair[] {
  return pairs.filter((pair, index) => pairs.findIndex((one) => same(one, pair)) === index);
}

/** The requests of this very run and user: an account may still carry another run's. */
function requestsOf(run: RunSeen, userId: string): RoleRequest[] {
  return run.accounts.flatMap(({ request }) =>
    request && askersOf(request).has(run.id) && request.user.id === userId ? request : [],
  );
}

function wantedPairs(run: RunSeen, userId: string): Pair[] {
  return requestsOf(run, userId).flatMap(({ roles }) =>
    roles.flatMap(({ target, proxies }) => proxies.map(({ arn, org }) => ({ org, target, proxy: arn }))),
  );
}

/** The roles that the run was given, and no mapping of the user names any more. A change of the carrier alone loses no role. */
function lostPairs(run: RunSeen, userId: string, mapped: readonly Pair[]): Pair[] {
  const tokens = requestsOf(run, userId).flatMap(({ tokens: held = [] }) => held.filter(isHeld));
  const byToken = tokens.map(({ target, arn, org }): Pair => ({ org, target, proxy: arn, carrier: 'token' }));
  const all = unique([...wantedPairs(run, userId), ...byToken]);
  return all.filter((pair) => !mapped.some((one) => sameRole(one, pair)));
}

/** A token that must not be used any more has `until`: the time when it expires. */
const isHeld = ({ until }: HeldToken) => until === undefined;

function entry(pair: Pair, { code, reason }: Verdict, sources: AccessSources, run: RunSeen | undefined): AccessEntry {
  const members = sources.status(pair.proxy)?.members ?? {};
  const accounts = run?.accounts.map(({ name }): AccountAccess => {
    const inside = isMember(members, name) ? members[name] : undefined;
    return { service_account: name, in_trust_policy: inside !== undefined, ...(inside ? { since: inside.since } : {}) };
  });
  return {
    domino_org: pair.org,
    member: sources.caller.orgs.includes(pair.org),
    iam_role_arn: pair.target,
    proxy_iam_role_arn: pair.proxy,
    ...(pair.carrier ? { carrier: pair.carrier } : {}),
    code,
    reason,
    advice: adviceFor('access', code),
    ...(accounts ? { service_accounts: accounts } : {}),
  };
}

/** Why the mapping gives the role to no run, or undefined where it is in order. */
function broken({ org, target, proxy }: Pair, { refused }: AccessSources): Verdict | undefined {
  const mismatch = refused.get(org);
  if (mismatch !== undefined) return verdictFor({ code: 'organization_id_mismatch', detail: mismatch });
  if (!parseRoleArn(target) || !parseRoleArn(proxy)) {
    return { code: 'invalid_mapping', reason: 'The mapping holds a text that is not the ARN of an IAM role.' };
  }
  return undefined;
}

/** Why the run has no roles at all, unmanaged ones included; undefined where it may have some. */
function shutOut({ accounts, revoked }: RunSeen): Verdict | undefined {
  const shared = accounts.find((account) => account.shared);
  if (shared) {
    const reason = `The service account ${shared.name} is also used by pods that another person started, who would get these roles.`;
    return { code: 'shared_service_account', reason };
  }
  return revoked === undefined ? undefined : { code: 'run_revoked', reason: revoked };
}

/** The verdict on an unmanaged role; undefined where the role is managed. */
function unmanaged({ proxy }: Pair, { mappings }: AccessSources): Verdict | undefined {
  if (mappings.managedProxies.has(proxy)) return undefined;
  const reason =
    'The owner of this proxy role keeps its trust policy, so this service does not know which runs it lets in.';
  return { code: 'kept_elsewhere', reason };
}

function withoutRun({ proxy, carrier }: Pair, { status, namespace }: AccessSources): Verdict {
  const known = status(proxy);
  if (!known) return notChecked;
  if (carrier) return byToken(known) ?? { code: 'ready', reason: 'The proxy role takes the tokens of runs.' };
  if (known.error) return verdictFor(known.error);
  if (roomIn(known, namespace).runs_that_still_fit > 0) {
    return { code: 'ready', reason: 'The proxy role is in order and has room.' };
  }
  return { code: 'trust_policy_full', reason: 'The trust policy of the proxy role has no room for another run now.' };
}

/** Why tokens of the role do not work now; undefined where they do. */
function byToken({ tokens, error }: TrustStatus): Verdict | undefined {
  const problem = tokens?.problem?.code === 'trust_policy_full' ? error : (tokens?.problem ?? error);
  if (problem) return verdictFor(problem);
  return tokens?.granted ? undefined : notChecked;
}

const notChecked: Verdict = {
  code: 'not_checked_yet',
  reason: 'The proxy role was not compared with IAM yet since it was mapped.',
};

function forRun(pair: Pair, run: RunSeen, sources: AccessSources): Verdict {
  if (pair.carrier) return tokenForRun(pair, run, sources);
  const requests = requestsOf(run, sources.caller.id);
  if (requests.length === 0) return { code: 'not_requested', reason: 'The run has not asked for its roles yet.' };
  if (!wantedPairs(run, sources.caller.id).some((one) => same(one, pair))) {
    return { code: 'refresh_needed', reason: 'The run last asked for its roles before it had this mapping.' };
  }
  return fromStatuses(pair, run, requests, sources);
}

function tokenForRun({ target, proxy }: Pair, run: RunSeen, { caller, status }: AccessSources): Verdict {
  const known = status(proxy);
  const problem = known ? byToken(known) : notChecked;
  if (problem) return problem;
  const isOfPair = ({ target: of, arn }: HeldToken) => of === target && arn === proxy;
  const holds = requestsOf(run, caller.id).some(({ tokens = [] }) =>
    tokens.some((one) => isHeld(one) && isOfPair(one)),
  );
  if (holds) return { code: 'granted', reason: 'The run was given tokens for the proxy role.' };
  return { code: 'not_requested', reason: 'The run has not asked for a token yet.' };
}

/** Whether a service account is a member: one without a request may have been removed by a write without an answer. */
function isMember(members: TrustStatus['members'], name: string): boolean {
  return Object.hasOwn(members, name) && members[name]?.want !== '';
}

function fromStatuses(pair: Pair, run: RunSeen, requests: RoleRequest[], { status }: AccessSources): Verdict {
  const { target, proxy } = pair;
  const isIn = (arn: string, name: string) => isMember(status(arn)?.members ?? {}, name);
  const inside = run.accounts.filter(({ name }) => isIn(proxy, name));
  if (inside.length === run.accounts.length) {
    return { code: 'granted', reason: 'The trust policy of the proxy role lets the run in.' };
  }
  const pool = requests.flatMap(({ roles }) =>
    roles.filter((one) => one.target === target).flatMap((one) => one.proxies),
  );
  const other = pool.find(({ arn }) => arn !== proxy && run.accounts.every(({ name }) => isIn(arn, name)));
  if (other) return { code: 'in_another_proxy', reason: `The run has this role through ${other.arn}.` };
  if (inside.length > 0) {
    return {
      code: 'partly_granted',
      reason: `Of the run's ${run.accounts.length} accounts, ${inside.length} have it.`,
    };
  }
  const ids = new Set(requests.map(({ id }) => id));
  const refused = pool
    .flatMap(({ arn }) => status(arn)?.refused ?? [])
    .find((one) => one.target === target && ids.has(one.want));
  if (refused) return verdictFor(refused);
  const known = status(proxy);
  if (!known) return notChecked;
  if (known.error) return verdictFor(known.error);
  return { code: 'pending', reason: 'What the run wants is on record, and IAM has not confirmed it yet.' };
}

function whyLost({ org }: Pair, orgs: readonly string[]): Verdict {
  if (orgs.includes(org)) {
    return { code: 'mapping_gone', reason: `Organization ${org} is not mapped to this role any more.` };
  }
  const reason = `The user is not a member of organization ${org} any more; the run loses the role when it next asks.`;
  return { code: 'not_a_member', reason };
}

/** The verdict by a leader's reason, whose detail is a part of a sentence. */
function verdictFor({ code, detail }: { code: string; detail: string }): Verdict {
  const text = detail.charAt(0).toUpperCase() + detail.slice(1);
  return { code, reason: text.endsWith('.') ? text : `${text}.` };
}
