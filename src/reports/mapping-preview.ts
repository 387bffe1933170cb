/** Owns the preview of a change of role mappings: which runs lose roles, which ones move, and whether they fit. Pure. */
import type { RoleMapping } from '../mappings/role-mappings.ts';
import { allowedProxies } from '../proxy-roles/run-placement.ts';
import type { TrustStatus } from '../proxy-roles/status.ts';
import { type PlaceOf, type TrialSources, tryMappings } from '../proxy-roles/trial.ts';
import { type OpenReport, openReports } from '../proxy-roles/ways-in.ts';
import { effectiveRequests } from '../runs/effective-request.ts';
import { rolesByToken } from '../runs/held-tokens.ts';
import type { RequestedRole, RoleRequest } from '../runs/role-request.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { type Room, roomIn } from './trust.ts';

export interface PreviewSources extends TrialSources {
  /** The organization whose mappings are changed. */
  org: string;
  /** Which tokens trust policies let in; undefined until that is known. */
  scope?: TrustScope | undefined;
}

type StatusOf = (roleArn: string) => TrustStatus | undefined;

interface Affected {
  service_account: string;
  run_id: string;
  user: string;
  iam_role_arn: string;
}

export interface Loss extends Affected {
  /** The proxy role of which it is a member; missing where it was still waiting. */
  proxy_iam_role_arn?: string;
  /** Whether the mappings still give the role, in another way than the run requested. */
  again_at_next_refresh: boolean;
}

export interface Move extends Affected {
  from: string;
  /** In the order in which they are tried. */
  to: string[];
}

/** An effect on the members of the organization: only Domino knows who they are. */
export interface ByMembership {
  iam_role_arn: string;
  who: string;
}

export interface RoleRoom extends Partial<Room> {
  proxy_iam_role_arn: string;
  /** Whether the leader has published its status; if not, its capacity is not known. */
  published: boolean;
  /** A mapping gives it by tokens: it has capacity for any number of runs. */
  carrier?: 'token';
  error?: { code: string; detail: string };
  /** The unmanaged subjects that let in more than the members. */
  open_subjects?: OpenReport[];
}

/** A proxy role that becomes unmanaged, with the runs in it. */
export interface HandOver {
  proxy_iam_role_arn: string;
  service_accounts: string[];
}

export interface MappingPreview {
  loses: Loss[];
  moves: Move[];
  gains_at_next_refresh: ByMembership[];
  loses_at_next_refresh: ByMembership[];
  /** The organization's managed proxy roles, after the change. */
  proxy_roles: RoleRoom[];
  /** Whether all runs that move fit; null where that is not known. */
  fits: boolean | null;
}

export function previewMappings(sources: PreviewSources): MappingPreview {
  const { before, after, org, namespace } = sources;
  const published = new Map(sources.statuses.map((one) => [one.role_arn, one]));
  const status: StatusOf = (arn) => published.get(arn);
  const placeAfter = tryMappings(sources);
  const loses: Loss[] = [];
  const moves: Move[] = [];
  const unplaced: Move[] = [];
  for (const [account, request] of effectiveRequests(sources.requests)) {
    const others = rolesByToken(request).filter(({ target }) => !request.roles.some((role) => role.target === target));
    for (const role of [...request.roles, ...others]) {
      const change = changeFor(account, request, role, sources, { status, placeAfter });
      if (change && 'from' in change) {
        moves.push(change);
        if (!placeAfter(account, role)) unplaced.push(change);
      } else if (change) loses.push(change);
    }
  }
  const had = byTarget(before.byOrg.get(org));
  const has = byTarget(after.byOrg.get(org));
  const who = `members of ${org}`;
  const gained = [...has.keys()].filter((target) => !had.has(target));
  // These targets have no managed proxy role, so there is no record of the runs that have their profiles.
  const unrecorded = [...had].filter(
    ([target, list]) => !has.has(target) && !list.some((one) => before.managedProxies.has(one.proxy_iam_role_arn)),
  );
  const proxies = new Set([...has.values()].flat().map((one) => one.proxy_iam_role_arn));
  const managed = [...proxies].filter((arn) => after.managedProxies.has(arn));
  return {
    loses,
    moves,
    gains_at_next_refresh: gained.map((target) => ({ iam_role_arn: target, who })),
    loses_at_next_refresh: unrecorded.map(([target]) => ({ iam_role_arn: target, who })),
    proxy_roles: managed.map((arn) => ({
      ...roomOf(arn, status(arn), { namespace, scope: sources.scope }),
      ...(after.tokenProxies.has(arn) ? { carrier: 'token' as const } : {}),
    })),
    // Where a proxy role is not published yet, its capacity is not known.
    fits: unplaced.length === 0 || (unplaced.some(({ to }) => to.every(status)) ? false : null),
  };
}

/** The proxy roles that the change makes unmanaged, and our service accounts in them. */
export function handedOver({ before, after }: Pick<PreviewSources, 'before' | 'after'>, status: StatusOf): HandOver[] {
  return [...before.managedProxies.intersection(after.unmanagedProxies)].sort().map((arn) => {
    const { members = {}, others = [] } = status(arn) ?? {};
    return { proxy_iam_role_arn: arn, service_accounts: [...Object.keys(members), ...others].sort() };
  });
}

/** The effect on one account's role: none, a loss, or a move to another proxy role of its request. */
function changeFor(
  account: string,
  request: RoleRequest,
  role: RequestedRole,
  { before, after }: PreviewSources,
  { status, placeAfter }: { status: StatusOf; placeAfter: PlaceOf },
): Loss | Move | undefined {
  const { target, proxies } = role;
  const allowed = allowedProxies(role, before);
  if (allowed.length === 0) return undefined;
  const about = { service_account: account, run_id: request.run, user: request.user.name, iam_role_arn: target };
  const from = allowed.find(({ arn }) => Object.hasOwn(status(arn)?.members ?? {}, account));
  if (from && from.arn === placeAfter(account, role)?.arn) return undefined;
  // A proxy role that becomes unmanaged is left as it is, with the run in it.
  if (from && after.unmanagedProxies.has(from.arn) && after.names(from.org, target, from.arn)) return undefined;
  const left = [...new Set(allowedProxies(role, after).map(({ arn }) => arn))];
  if (left.length > 0) return from && { ...about, from: from.arn, to: left };
  const again = proxies.some(({ org }) => after.byOrg.get(org)?.some((one) => one.iam_role_arn === target));
  return { ...about, ...(from ? { proxy_iam_role_arn: from.arn } : {}), again_at_next_refresh: again };
}

/** Target -> its mappings. */
function byTarget(list: readonly RoleMapping[] = []): Map<string, RoleMapping[]> {
  return Map.groupBy(list, ({ iam_role_arn: target }) => target);
}

function roomOf(
  arn: string,
  status: TrustStatus | undefined,
  { namespace, scope }: Pick<PreviewSources, 'namespace' | 'scope'>,
): RoleRoom {
  if (!status) return { proxy_iam_role_arn: arn, published: false };
  const { error } = status;
  const open = openReports(status, scope);
  return {
    proxy_iam_role_arn: arn,
    published: true,
    ...roomIn(status, namespace),
    ...(error ? { error: { code: error.code, detail: error.detail } } : {}),
    ...(open.length > 0 ? { open_subjects: open } : {}),
  };
}
