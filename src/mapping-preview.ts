/** Owns what a change of the role mappings would do, before it is made: who loses what, who moves, what fits. Pure. */
import type { Mappings, RoleMapping } from './mappings.ts';
import { type Room, roomIn } from './trust-report.ts';
import type { TrustStatus } from './trust-status.ts';
import type { Want, WantedRole } from './wants.ts';

export interface PreviewSources {
  before: Mappings;
  after: Mappings;
  /** The organization whose mappings are changed. */
  org: string;
  /** The wants that count, by service account. */
  wants: ReadonlyMap<string, Want>;
  status: (roleArn: string) => TrustStatus | undefined;
  /** The namespace that runs live in. */
  namespace: string;
}

interface Affected {
  service_account: string;
  run_id: string;
  user: string;
  iam_role_arn: string;
}

export interface Loss extends Affected {
  /** The proxy role that it is in; missing where it was still waiting. */
  proxy_iam_role_arn?: string;
  /** Whether the mappings still lead to the role, another way than the run asked for. */
  again_at_next_refresh: boolean;
}

export interface Move extends Affected {
  from: string;
  /** In the order in which they are tried. */
  to: string[];
}

/** For what depends on who is a member of the organization, which only Domino knows. */
export interface ByMembership {
  iam_role_arn: string;
  who: string;
}

export interface RoleRoom extends Partial<Room> {
  proxy_iam_role_arn: string;
  /** Whether the writer has looked at it yet; where not, its room is not known. */
  published: boolean;
  error?: { code: string; detail: string };
}

export interface MappingPreview {
  loses: Loss[];
  moves: Move[];
  gains_at_next_refresh: ByMembership[];
  loses_at_next_refresh: ByMembership[];
  /** The organization's proxy roles whose trust policy is kept here, after the change. */
  proxy_roles: RoleRoom[];
  /** Whether all who move find room; null where that is not known. */
  fits: boolean | null;
}

export function previewMappings(sources: PreviewSources): MappingPreview {
  const { before, after, org, namespace, status } = sources;
  const loses: Loss[] = [];
  const moves: Move[] = [];
  for (const [account, want] of sources.wants) {
    for (const role of want.roles) {
      const change = changeFor(account, want, role, sources);
      if (change && 'from' in change) moves.push(change);
      else if (change) loses.push(change);
    }
  }
  const had = byTarget(before.byOrg.get(org) ?? []);
  const has = byTarget(after.byOrg.get(org) ?? []);
  const who = `members of ${org}`;
  const gained = [...has.keys()].filter((target) => !had.has(target));
  // Whoever keeps the trust policy of these, we have no record of the runs that were given their profiles.
  const unrecorded = [...had].filter(
    ([target, proxies]) => !has.has(target) && !proxies.some((arn) => before.managedProxies.has(arn)),
  );
  const managed = [...new Set([...has.values()].flat())].filter((arn) => after.managedProxies.has(arn));
  return {
    loses,
    moves,
    gains_at_next_refresh: gained.map((target) => ({ iam_role_arn: target, who })),
    loses_at_next_refresh: unrecorded.map(([target]) => ({ iam_role_arn: target, who })),
    proxy_roles: managed.map((arn) => roomOf(arn, status(arn), namespace)),
    fits: allFit(moves, sources),
  };
}

/** What becomes of one account's role: nothing, it is lost, or it moves to another proxy role of its want. */
function changeFor(
  account: string,
  want: Want,
  { target, proxies }: WantedRole,
  { before, after, status }: PreviewSources,
): Loss | Move | undefined {
  if (!proxies.some(({ arn, org }) => before.allows(org, target, arn))) return undefined;
  const about = { service_account: account, run_id: want.run, user: want.user.name, iam_role_arn: target };
  const isIn = (arn: string) => Object.hasOwn(status(arn)?.members ?? {}, account);
  const current = proxies.find(({ arn, org }) => before.allows(org, target, arn) && isIn(arn))?.arn;
  // A proxy role whose trust policy somebody else comes to keep is left as it is, with the run in it.
  const left = proxies.filter(({ arn, org }) => names(after, org, target, arn));
  if (left.length === 0) {
    const again = proxies.some(({ org }) => byTarget(after.byOrg.get(org) ?? []).has(target));
    return {
      ...about,
      ...(current === undefined ? {} : { proxy_iam_role_arn: current }),
      again_at_next_refresh: again,
    };
  }
  if (current === undefined || left.some(({ arn }) => arn === current)) return undefined;
  return { ...about, from: current, to: [...new Set(left.map(({ arn }) => arn))] };
}

function names(mappings: Mappings, org: string, target: string, proxy: string): boolean {
  return (
    byTarget(mappings.byOrg.get(org) ?? [])
      .get(target)
      ?.includes(proxy) ?? false
  );
}

/** Target -> its proxy roles. */
function byTarget(list: readonly RoleMapping[]): Map<string, string[]> {
  const targets = new Map<string, string[]>();
  for (const { iam_role_arn: target, proxy_iam_role_arn: proxy } of list) {
    targets.set(target, [...(targets.get(target) ?? []), proxy]);
  }
  return targets;
}

function roomOf(arn: string, status: TrustStatus | undefined, namespace: string): RoleRoom {
  if (!status) return { proxy_iam_role_arn: arn, published: false };
  const { error } = status;
  return {
    proxy_iam_role_arn: arn,
    published: true,
    ...roomIn(status, namespace),
    ...(error ? { error: { code: error.code, detail: error.detail } } : {}),
  };
}

/** Those who may go to the same proxy roles are counted against the room of these together. */
function allFit(moves: readonly Move[], { status, namespace }: PreviewSources): boolean | null {
  let known = true;
  for (const movers of Map.groupBy(moves, ({ to }) => to.join(' ')).values()) {
    const statuses = (movers[0]?.to ?? []).map(status);
    // An account moves once, however many target roles it has through the proxy role.
    const accounts = new Set(movers.map(({ service_account: name }) => name)).size;
    const usable = statuses.filter((one) => one !== undefined && !one.error) as TrustStatus[];
    const room = usable.reduce((sum, one) => sum + roomIn(one, namespace).runs_that_still_fit, 0);
    if (room >= accounts) continue;
    if (statuses.every((one) => one !== undefined)) return false;
    known = false;
  }
  return known ? true : null;
}
