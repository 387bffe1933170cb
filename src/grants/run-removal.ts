/** Owns the removal of a revoked run from its roles: finds its service accounts, and waits until IAM shows none of them. */
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { orUnavailable } from '../kubernetes/error.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { ApiError } from '../lib/errors.ts';
import type { MappingStore } from '../mappings/store.ts';
import { type UnpublishedRolesDeps, unpublishedWaysIn } from '../proxy-roles/unpublished-roles.ts';
import { type HeldTokens, tokenWaysIn, type WayIn, waysIn } from '../proxy-roles/ways-in.ts';
import { untilPublished } from '../reconcile/status-store.ts';
import { anyRole } from '../runs/held-tokens.ts';
import type { RevokedTokens } from '../runs/revocations.ts';
import { type HeldToken, parseRoleRequest } from '../runs/role-request.ts';
import { accountNames, type PodIndex } from '../runs/runs.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { type ComparisonDeps, compareNow } from './compare-now.ts';

export interface RunRemovalDeps extends ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'listPods' | 'getServiceAccount' | 'annotateConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  /** Which tokens trust policies let in; undefined until this replica knows its AWS account. */
  trustScope: () => TrustScope | undefined;
  mappings: Pick<MappingStore, 'current'>;
  iam: UnpublishedRolesDeps['iam'];
}

/** How long an answer waits until IAM has accepted documents without the run. */
const maxWaitMs = 5_000;

/** The accounts of the run's live pods, and those that carry a role request of it. */
export function accountsOf(run: string, { accounts, pods }: RunRemovalDeps): string[] {
  const used = pods.ofRun(run).map(({ account }) => account);
  const wanting = [...accounts.values()].filter(
    ({ wanted }) => wanted?.includes(run) === true && parseRoleRequest(wanted)?.run === run,
  );
  return [...new Set([...used, ...wanting.map(({ name }) => name)])].sort();
}

/** As `accountsOf`, else by the pods that the API server lists. @throws ApiError `run_not_found`, `kubernetes_unavailable` */
export async function accountsOrNotFound(run: string, deps: RunRemovalDeps): Promise<string[]> {
  const known = accountsOf(run, deps);
  if (known.length > 0) return known;
  // A pod that is seconds old is not in the watch yet.
  const listed = await orUnavailable(() => deps.kubernetes.listPods(run));
  const found = listed.filter((pod) => pod.live && pod.run === run);
  if (found.length > 0) return accountNames(found);
  throw new ApiError('run_not_found', 'No live pod of this run is there, and no service account has roles for it.');
}

type HeldDeps = Pick<RunRemovalDeps, 'statuses' | 'mappings'> & { accounts: Pick<RunRemovalDeps['accounts'], 'get'> };

/**
 * The tokens on record of these service accounts, and in an earlier revocation of the run. A record is deleted with its
 * account, while the tokens keep working.
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
 * Reads these service accounts from the API server, since another replica may just have given a token. The watch's copy stands
 * in where the API server does not answer, or the run has ended meanwhile and its account is gone.
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
 * The published proxy roles that may let these accounts in, by an entry or a token, although their statuses do not show it: a
 * write that is under way may have changed the role since.
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

/** The proxy roles that let these service accounts in, by published statuses, sorted by ARN. */
export function waysOf(names: readonly string[], deps: RunRemovalDeps, held: HeldTokens): WayIn[] {
  const { clock, statuses, trustScope } = deps;
  const published = [...statuses.all()].map(({ status }) => status);
  const byTokens = tokenWaysIn(published, trustScope(), held, clock.now());
  const ways = waysIn(published, trustScope(), names);
  const others = byTokens.filter((way) => !ways.some((one) => one.proxy_iam_role_arn === way.proxy_iam_role_arn));
  return [...ways, ...others].sort((a, b) => (a.proxy_iam_role_arn < b.proxy_iam_role_arn ? -1 : 1));
}

/** The proxy roles without a published status that may let the holders of these tokens in. @param maxMs for IAM's answers. */
export function unpublishedWaysOf(held: HeldTokens, deps: RunRemovalDeps, maxMs?: number): Promise<WayIn[]> {
  const isPublished = (arn: string) => deps.statuses.get(arn) !== undefined;
  return unpublishedWaysIn(held, { ...deps, mappings: deps.mappings.current, isPublished }, maxMs);
}

/**
 * Waits until IAM has shown, after the writes, documents without these accounts.
 * @param held the tokens that their pods may hold, as recorded before the revocation.
 * @param before the ARNs of the proxy roles that let them in before the revocation.
 * @returns the proxy roles that still let them in, or may, with what has to be done; every role while this replica does not
 * know its AWS account.
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
  // A write that is under way may let them into a requested role that shows them nowhere: the leader compares these first.
  const unsettled = rolesUnsettled(names, held, before, deps);
  await compareAll(unsettled);
  // Only pending roles are waited for: the others need a person, not seconds.
  const isPending = () => waysOf(names, deps, held).some(({ code }) => code === 'pending');
  await untilPublished(statuses, clock, leftMs(), () => !isPending());
  const unread = isPending() ? [] : await compareAll([...new Set([...before, ...unsettled])]);
  // Within what is left of the answer's time: a role that could not be read in it counts as one that lets the run in.
  const ways = [...waysOf(names, deps, held), ...(await unpublishedWaysOf(held, deps, leftMs()))];
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
