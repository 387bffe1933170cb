/** Owns what users are told of their roles: for each mapping, whether a run of theirs has it, and if not, why. Pure. */
import { adviceFor } from './access-advice.ts';
import { parseRoleArn } from './arn.ts';
import type { Mappings } from './mappings.ts';
import { roomIn } from './trust-report.ts';
import type { TrustStatus } from './trust-status.ts';
import { askersOf, type Want } from './wants.ts';

export interface AccessSources {
  caller: { id: string; orgs: readonly string[] };
  mappings: Mappings;
  status: (roleArn: string) => TrustStatus | undefined;
  /** The namespace that runs live in. */
  namespace: string;
}

/** A live run of the caller. */
export interface RunSeen {
  /** 24 hex digits. */
  id: string;
  accounts: {
    name: string;
    want: Want | undefined;
    /** Whether live pods of somebody else use it. */
    shared: boolean;
  }[];
  /** The sentence with which an administrator's revocation is told, where there is one. */
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
  code: string;
  /** Why it is so. */
  reason: string;
  /** What to do about it. */
  advice: string;
  /** With a run: each of its accounts. */
  service_accounts?: AccountAccess[];
}

type Verdict = Pick<AccessEntry, 'code' | 'reason'>;
type Pair = { org: string; target: string; proxy: string };

/** The caller's mappings, with how they fare for the run, or by themselves where no run is given. */
export function accessReport(sources: AccessSources, run?: RunSeen): AccessEntry[] {
  const { caller, mappings } = sources;
  const pairs = [...mappings.byOrg]
    .filter(([org]) => caller.orgs.includes(org))
    .flatMap(([org, list]) => list.map((one) => pairOf(org, one)));
  const entries = unique(pairs).map((pair) => {
    const { code, reason } = inOrder(pair, sources) ?? (run ? forRun(pair, run, sources) : forNobody(pair, sources));
    return entry(pair, { code, reason }, sources, run);
  });
  const lost = run ? unique(wantedPairs(run, caller.id)).filter((pair) => !pairs.some((one) => same(one, pair))) : [];
  return [...entries, ...lost.map((pair) => entry(pair, whyLost(pair, caller.orgs), sources, run))];
}

function pairOf(org: string, mapping: { iam_role_arn: string; proxy_iam_role_arn: string }): Pair {
  return { org, target: mapping.iam_role_arn, proxy: mapping.proxy_iam_role_arn };
}

function same(a: Pair, b: Pair): boolean {
  return a.org === b.org && a.target === b.target && a.proxy === b.proxy;
}

function unique(pairs: readonly Pair[]): Pair[] {
  return pairs.filter((pair, index) => pairs.findIndex((one) => same(one, pair)) === index);
}

/** The wants of this very run and user: an account may still carry another run's. */
function wantsOf(run: RunSeen, userId: string): Want[] {
  return run.accounts.flatMap(({ want }) =>
    want && askersOf(want).has(run.id) && want.user.id === userId ? want : [],
  );
}

function wantedPairs(run: RunSeen, userId: string): Pair[] {
  return wantsOf(run, userId).flatMap(({ roles }) =>
    roles.flatMap(({ target, proxies }) => proxies.map(({ arn, org }) => ({ org, target, proxy: arn }))),
  );
}

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
    code,
    reason,
    advice: adviceFor(code),
    ...(accounts ? { service_accounts: accounts } : {}),
  };
}

/** What is so of the mapping for whatever run, or undefined where its trust policy is ours to keep. */
function inOrder({ target, proxy }: Pair, { mappings }: AccessSources): Verdict | undefined {
  if (!parseRoleArn(target) || !parseRoleArn(proxy)) {
    return { code: 'invalid_mapping', reason: 'The mapping holds a text that is not the ARN of an IAM role.' };
  }
  if (mappings.managedProxies.has(proxy)) return undefined;
  const reason = 'Somebody else keeps the trust policy of this proxy role, so it is not known here who is in it.';
  return { code: 'kept_elsewhere', reason };
}

function forNobody({ proxy }: Pair, { status, namespace }: AccessSources): Verdict {
  const known = status(proxy);
  if (!known) return notChecked;
  if (known.error) return { code: known.error.code, reason: sentence(known.error.detail) };
  if (roomIn(known, namespace).runs_that_still_fit > 0) {
    return { code: 'ready', reason: 'The proxy role is in order and has room.' };
  }
  return { code: 'trust_policy_full', reason: 'The trust policy of the proxy role has no room for another run now.' };
}

const notChecked: Verdict = {
  code: 'not_checked_yet',
  reason: 'The proxy role was not compared with IAM yet since it was mapped.',
};

function forRun(pair: Pair, run: RunSeen, sources: AccessSources): Verdict {
  const shared = run.accounts.find((account) => account.shared);
  if (shared) {
    const reason = `The service account ${shared.name} is also used by pods that somebody else started, who would get your roles.`;
    return { code: 'shared_service_account', reason };
  }
  if (run.revoked !== undefined) return { code: 'run_revoked', reason: run.revoked };
  const wants = wantsOf(run, sources.caller.id);
  if (wants.length === 0) return { code: 'not_requested', reason: 'The run has not asked for its roles yet.' };
  if (!wantedPairs(run, sources.caller.id).some((one) => same(one, pair))) {
    return { code: 'refresh_needed', reason: 'The run last asked for its roles before it had this mapping.' };
  }
  return fromStatuses(pair, run, wants, sources);
}

/** Whoever may have been taken out, by a write without an answer, is there for no want. */
function isMember(members: TrustStatus['members'], name: string): boolean {
  return Object.hasOwn(members, name) && members[name]?.want !== '';
}

function fromStatuses({ target, proxy }: Pair, run: RunSeen, wants: Want[], { status }: AccessSources): Verdict {
  const isIn = (arn: string, name: string) => isMember(status(arn)?.members ?? {}, name);
  const inside = run.accounts.filter(({ name }) => isIn(proxy, name));
  if (inside.length === run.accounts.length) {
    return { code: 'granted', reason: 'The trust policy of the proxy role lets the run in.' };
  }
  const pool = wants.flatMap(({ roles }) => roles.filter((one) => one.target === target).flatMap((one) => one.proxies));
  const other = pool.find(({ arn }) => arn !== proxy && run.accounts.every(({ name }) => isIn(arn, name)));
  if (other) return { code: 'in_another_proxy', reason: `The run has this role through ${other.arn}.` };
  if (inside.length > 0) {
    return {
      code: 'partly_granted',
      reason: `Of the run's ${run.accounts.length} accounts, ${inside.length} have it.`,
    };
  }
  const ids = new Set(wants.map(({ id }) => id));
  const refused = pool
    .flatMap(({ arn }) => status(arn)?.refused ?? [])
    .find((one) => one.target === target && ids.has(one.want));
  if (refused) return { code: refused.code, reason: sentence(refused.detail) };
  const known = status(proxy);
  if (!known) return notChecked;
  if (known.error) return { code: known.error.code, reason: sentence(known.error.detail) };
  return { code: 'pending', reason: 'What the run wants is on record, and IAM has not confirmed it yet.' };
}

function whyLost({ org }: Pair, orgs: readonly string[]): Verdict {
  if (orgs.includes(org)) {
    return { code: 'mapping_gone', reason: `Organization ${org} is not mapped to this role any more.` };
  }
  const reason = `You are not a member of organization ${org} any more; the run loses the role when it next asks.`;
  return { code: 'not_a_member', reason };
}

/** The writer's reasons are parts of sentences. */
function sentence(detail: string): string {
  const text = detail.charAt(0).toUpperCase() + detail.slice(1);
  return text.endsWith('.') ? text : `${text}.`;
}
