/** Owns the reports to administrators on proxy roles: their members, whose runs these are, and the capacity left. Pure. */
import { isManaged, type Mappings } from '../mappings/role-mappings.ts';
import { type SharedReach, sharedReach } from '../mappings/shared-proxies.ts';
import type { TrustStatus } from '../proxy-roles/status.ts';
import { type OpenReport, openReports } from '../proxy-roles/ways-in.ts';
import { parseRoleRequest } from '../runs/role-request.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { memberCost } from '../trust-policy/subjects.ts';

/** The data of the reports, all from caches. */
export interface TrustReportSources {
  mappings: Mappings;
  status: (roleArn: string) => TrustStatus | undefined;
  /** The raw annotation of a service account, where it has one. */
  wanted: (account: string) => string | undefined;
  /** The namespace that runs live in. */
  namespace: string;
  /** Which tokens trust policies let in; undefined until that is known. */
  scope?: TrustScope | undefined;
}

export interface MemberReport {
  service_account: string;
  since: string;
  /** Of the request on record, where there is one. */
  run_id?: string;
  user?: string;
  domino_orgs?: string[];
}

export interface WaitingReport {
  service_account: string;
  iam_role_arn: string;
  code: string;
  detail: string;
  run_id?: string;
  user?: string;
  asked_at?: string;
}

export interface RoleReport
  extends Partial<Room>,
    Partial<Pick<TrustStatus, 'characters_used' | 'characters_allowed'>>,
    Pick<TrustStatus, 'others' | 'kept_elsewhere' | 'written_at' | 'compared_at'>,
    Pick<TrustStatus, 'drift' | 'contested_until' | 'brake' | 'error'> {
  proxy_iam_role_arn: string;
  /** Whether a mapping names the role; when none does any more, its members are being removed. */
  mapped: boolean;
  /** Whether the leader has published its status; if not, the content of its document is not known. */
  published: boolean;
  members: MemberReport[];
  waiting: WaitingReport[];
  /** The unmanaged subjects that let in more than the members. */
  open_subjects?: OpenReport[] | undefined;
  /** Its part for role tokens, where a mapping gives it by them. */
  role_tokens?: (Omit<NonNullable<TrustStatus['tokens']>, 'denied'> & { denied: string[] }) | undefined;
  /** Organizations that reach other organizations' targets through it. */
  shared?: SharedReach[] | undefined;
}

export interface PoolReport {
  iam_role_arn: string;
  proxy_iam_role_arns: string[];
  /** In all of its proxy roles together that accept members. */
  runs_that_still_fit: number;
}

/** The capacity that one proxy role has left. */
export interface Room {
  characters_free: number;
  runs_that_still_fit: number;
}

/** The capacity that a role's document has for accounts of the usual name, `run-<24 hex>`; a longer name takes more. */
export function roomIn(status: TrustStatus, namespace: string): Room {
  const free = Math.max(0, status.characters_allowed - status.characters_used);
  const cost = memberCost(namespace, `run-${'0'.repeat(24)}`);
  return { characters_free: free, runs_that_still_fit: Math.floor(free / cost) };
}

/** The proxy roles to report on. A role that only Pod Identity uses is reported with its users instead. */
export function reportedRoles({ managedProxies }: Mappings, published: readonly TrustStatus[]): string[] {
  const isProxy = ({ pods, members, others }: TrustStatus) => !pods || Object.keys(members).length > 0 || others;
  const proxies = published.filter(isProxy).map(({ role_arn: arn }) => arn);
  return [...managedProxies.union(new Set(proxies))].sort();
}

/** One proxy role as it was last published. */
export function roleReport(roleArn: string, sources: TrustReportSources): RoleReport {
  const status = sources.status(roleArn);
  const mapped = sources.mappings.managedProxies.has(roleArn);
  const shared = sharedReach(roleArn, sources.mappings.byOrg);
  const published = status !== undefined;
  const base = { proxy_iam_role_arn: roleArn, mapped, published, shared: shared.length > 0 ? shared : undefined };
  if (!status) return { ...base, members: [], waiting: [] };
  const open = openReports(status, sources.scope);
  const { tokens, error } = status;
  return {
    ...base,
    members: Object.entries(status.members)
      .map(([account, { since }]) => member(roleArn, account, since, sources))
      .sort((a, b) => compare(a.since, b.since) || compare(a.service_account, b.service_account)),
    waiting: status.refused.map((refusal) => waiting(refusal, sources)),
    others: status.others,
    open_subjects: open.length > 0 ? open : undefined,
    kept_elsewhere: status.kept_elsewhere,
    characters_used: status.characters_used,
    characters_allowed: status.characters_allowed,
    // A role that cannot be written has no capacity, whatever its size.
    ...(error ? { characters_free: 0, runs_that_still_fit: 0 } : roomIn(status, sources.namespace)),
    written_at: status.written_at,
    compared_at: status.compared_at,
    drift: status.drift,
    contested_until: status.contested_until,
    brake: status.brake,
    role_tokens: tokens && { ...tokens, denied: Object.keys(tokens.denied).sort() },
    error,
  };
}

/** The target roles that are reached through several managed proxy roles, with their capacity in total. */
export function poolReports(sources: TrustReportSources): PoolReport[] {
  const pools = new Map<string, Set<string>>();
  for (const mapping of [...sources.mappings.byOrg.values()].flat()) {
    const { iam_role_arn: target, proxy_iam_role_arn: proxy } = mapping;
    if (!isManaged(mapping) || !sources.mappings.managedProxies.has(proxy)) continue;
    pools.set(target, (pools.get(target) ?? new Set<string>()).add(proxy));
  }
  return [...pools]
    .filter(([, proxies]) => proxies.size > 1)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([target, proxies]) => ({
      iam_role_arn: target,
      proxy_iam_role_arns: [...proxies],
      runs_that_still_fit: [...proxies].reduce((sum, arn) => sum + fitting(sources.status(arn), sources.namespace), 0),
    }));
}

function fitting(status: TrustStatus | undefined, namespace: string): number {
  return status && !status.error ? roomIn(status, namespace).runs_that_still_fit : 0;
}

function member(roleArn: string, account: string, since: string, { wanted }: TrustReportSources): MemberReport {
  const request = parseRoleRequest(wanted(account));
  if (!request) return { service_account: account, since };
  const orgs = request.roles.flatMap(({ proxies }) =>
    proxies.filter(({ arn }) => arn === roleArn).map(({ org }) => org),
  );
  return {
    service_account: account,
    since,
    run_id: request.run,
    user: request.user.name,
    domino_orgs: [...new Set(orgs)].sort(),
  };
}

function waiting({ account, target, code, detail }: TrustStatus['refused'][number], { wanted }: TrustReportSources) {
  const request = parseRoleRequest(wanted(account));
  const who = request ? { run_id: request.run, user: request.user.name, asked_at: request.at } : {};
  return { service_account: account, iam_role_arn: target, code, detail, ...who };
}

export function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
