/** Owns the way of a revoked run out of its roles: which service accounts it uses, and when IAM shows none of them. */
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { kubernetesUnavailable } from '../kubernetes/transport.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { ApiError } from '../lib/errors.ts';
import type { MappingStore } from '../mappings/store.ts';
import { type UnpublishedRolesDeps, unpublishedWaysIn } from '../proxy-roles/unpublished-roles.ts';
import { type HeldTokens, tokenWaysIn, type WayIn, waysIn } from '../proxy-roles/ways-in.ts';
import { untilPublished } from '../reconcile/status-store.ts';
import { anyRole } from '../runs/held-tokens.ts';
import type { RevokedTokens } from '../runs/revocations.ts';
import { type HeldToken, parseRoleRequest } from '../runs/role-request.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { type ComparisonDeps, compareNow } from './compare-now.ts';

export interface RunRemovalDeps extends ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'listPods' | 'getServiceAccount' | 'annotateConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  /** Whose tokens trust policies let in, once our AWS account is known. */
  trustScope: () => TrustScope | undefined;
  mappings: Pick<MappingStore, 'current'>;
  iam: UnpublishedRolesDeps['iam'];
}

/** How long an answer waits for IAM to have accepted the documents without the run. */
const maxWaitMs = 5_000;

/** The accounts of the run's live pods, and those that carry a role request of it. */
export function accountsOf(run: string, { accounts, pods }: RunRemovalDeps): string[] {
  const used = pods.ofRun(run).map(({ account }) => account);
  const wanting = [...accounts.values()].filter(
    ({ wanted }) => wanted?.includes(run) === true && parseRoleRequest(wanted)?.run === run,
  );
  return [...new Set([...used, ...wanting.map(({ name }) => name)])].sort();
}

/** As `accountsOf`, or what the API server lists. @throws ApiError `run_not_found`, `kubernetes_unavailable` */
export async function accountsOrNotFound(run: string, deps: RunRemovalDeps): Promise<string[]> {
  const known = accountsOf(run, deps);
  if (known.length > 0) return known;
  try {
    // A pod that is seconds old is not in the watch yet.
    const found = (await deps.kubernetes.listPods(run)).filter((pod) => pod.live && pod.run === run);
    if (found.length > 0) return [...new Set(found.map(({ account }) => account))].sort();
  } catch (error) {
    throw kubernetesUnavailable(error);
  }
  throw new ApiError('run_not_found', 'No live pod of this run is there, and no service account has roles for it.');
}

type HeldDeps = Pick<RunRemovalDeps, 'statuses' | 'mappings'> & { accounts: Pick<RunRemovalDeps['accounts'], 'get'> };

/**
 * What is on record of these service accounts, and of those of a run that was revoked before: an account that goes with its run
 * takes its record along, and no token.
 */
export function heldBy(
  names: readonly string[],
  { accounts, statuses, mappings }: HeldDeps,
  revoked?: RevokedTokens,
): HeldTokens {
  const { until, held = {} } = revoked ?? {};
  const known = () => [...[...statuses.all()].map(({ status }) => status.role_arn), ...mappings.current().tokenProxies];
  const found = new Map<string, Pick<HeldToken, 'arn' | 'until'>[]>();
  for (const [name, arns] of Object.entries(held)) {
    const ended = [...new Set(arns.includes(anyRole) ? known() : arns)].map((arn) => ({ arn, until }));
    found.set(name, ended);
  }
  for (const name of names) {
    const now = parseRoleRequest(accounts.get(name)?.wanted)?.tokens;
    if (now) found.set(name, [...(found.get(name) ?? []), ...now]);
  }
  return found;
}

/**
 * What the API server has of these service accounts now, since another replica may just have given a token; or what the watch
 * has, where the API server does not answer, or the run has ended meanwhile and its account is gone.
 */
export async function readAccounts(
  names: readonly string[],
  { kubernetes, accounts }: Pick<RunRemovalDeps, 'kubernetes' | 'accounts'>,
): Promise<Pick<RunRemovalDeps['accounts'], 'get'>> {
  const found = names.map(async (name) => {
    const watched = accounts.get(name);
    const read = await kubernetes.getServiceAccount(name).catch(() => undefined);
    return [name, read ?? watched] as const;
  });
  return new Map(await Promise.all(found));
}

/**
 * The proxy roles, known to the leader, that a write under way may let these accounts into: what is published of an entry, or of
 * the Deny of a token, may be over.
 */
function rolesUnsettled(
  names: readonly string[],
  held: HeldTokens,
  settled: readonly string[],
  { accounts, statuses }: RunRemovalDeps,
): string[] {
  const wanted = names.flatMap((name) => parseRoleRequest(accounts.get(name)?.wanted)?.roles ?? []);
  const open = wanted.filter(({ proxies }) => !proxies.some(({ arn }) => settled.includes(arn)));
  const byEntry = open.flatMap(({ proxies }) => proxies.map(({ arn }) => arn));
  const byToken = [...held.values()].flat().map(({ arn }) => arn);
  return [...new Set([...byEntry, ...byToken])].filter((arn) => statuses.get(arn) && !settled.includes(arn));
}

/** The proxy roles that let these service accounts in, as published, by ARN. */
export function waysOf(
  names: readonly string[],
  deps: RunRemovalDeps,
  held: HeldTokens = heldBy(names, deps),
): WayIn[] {
  const { clock, statuses, trustScope } = deps;
  const published = [...statuses.all()].map(({ status }) => status);
  const byTokens = tokenWaysIn(published, trustScope(), held, clock.now());
  const ways = waysIn(published, trustScope(), names);
  const others = byTokens.filter((way) => !ways.some((one) => one.proxy_iam_role_arn === way.proxy_iam_role_arn));
  return [...ways, ...others].sort((a, b) => (a.proxy_iam_role_arn < b.proxy_iam_role_arn ? -1 : 1));
}

/** The roles that the published statuses do not name, and that may let the holders of these tokens in. */
export function unpublishedWaysOf(held: HeldTokens, deps: RunRemovalDeps): Promise<WayIn[]> {
  const isPublished = (arn: string) => deps.statuses.get(arn) !== undefined;
  return unpublishedWaysIn(held, { ...deps, mappings: deps.mappings.current, isPublished });
}

/**
 * Waits until IAM has shown, after the writes, documents without these accounts.
 * @param held the tokens that their pods may hold, as it was on record before.
 * @returns the proxy roles that let them in all the same, or may, with what has to be done; every role while it is not
 * known whose tokens the documents let in.
 */
export async function untilRemoved(
  names: readonly string[],
  held: HeldTokens,
  before: readonly string[],
  deps: RunRemovalDeps,
): Promise<WayIn[]> {
  const { clock, statuses } = deps;
  const until = clock.monotonic() + maxWaitMs;
  const leftMs = () => Math.max(0, until - clock.monotonic());
  const compareAll = async (roles: readonly string[]) => {
    const compared = await Promise.all(
      roles.map((role) => compareNow(deps, role, { maxMs: leftMs() }).catch(() => false)),
    );
    return roles.filter((role, index) => statuses.get(role) && (!compared[index] || statuses.get(role)?.status.unread));
  };
  // A write that lets it in may be under way: where it asked for a role that it is not published in, the leader is asked.
  const unsettled = rolesUnsettled(names, held, before, deps);
  await compareAll(unsettled);
  // What waits for a person does not get better within seconds.
  const isPending = () => waysOf(names, deps, held).some(({ code }) => code === 'pending');
  await untilPublished(statuses, clock, leftMs(), () => !isPending());
  const unread = isPending() ? [] : await compareAll([...new Set([...before, ...unsettled])]);
  const ways = [...waysOf(names, deps, held), ...(await unpublishedWaysOf(held, deps))];
  const known = new Set(ways.map(({ proxy_iam_role_arn: arn }) => arn));
  const isJudged = deps.trustScope() !== undefined;
  const unsure = isJudged ? unread : [...statuses.all()].map(({ status }) => status.role_arn);
  const detail = isJudged
    ? 'IAM has not shown a trust policy without it yet'
    : 'this replica does not know its AWS account yet, and cannot tell which tokens the trust policy lets in';
  return [
    ...ways,
    ...unsure
      .filter((role) => !known.has(role))
      .map((role) => ({ proxy_iam_role_arn: role, service_accounts: [...names], code: 'pending', detail })),
  ];
}
