/** Owns `GET /trust_status` and `POST /release_brake`: the state of proxy roles, and the release of held removals. */
import { type Request, Router } from 'express';
import { type ComparisonDeps, compareNow } from '../src/grants/compare-now.ts';
import { releaseRemovals } from '../src/grants/release-removals.ts';
import { audit } from '../src/http/audit.ts';
import { pageOf, pageQuery } from '../src/http/page.ts';
import type { Kubernetes, ServiceAccount } from '../src/kubernetes/client.ts';
import type { Watched } from '../src/kubernetes/watch.ts';
import { ApiError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';
import type { MappingStore } from '../src/mappings/store.ts';
import type { PodIdentity } from '../src/pod-identity/setup.ts';
import { podIdentityReports, podIdentitySources } from '../src/reports/pod-identity.ts';
import type { Replicas } from '../src/reports/replicas.ts';
import { poolReports, reportedRoles, roleReport, type TrustReportSources } from '../src/reports/trust.ts';
import { needsAttention, roleReports, trustTotals } from '../src/reports/trust-pages.ts';
import type { Revocations } from '../src/runs/revocations.ts';
import type { PodIndex } from '../src/runs/runs.ts';
import type { TrustScope } from '../src/trust-policy/document.ts';

export interface TrustStatusDeps extends ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'annotateConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  podIdentity: PodIdentity | undefined;
  mappings: MappingStore;
  revocations: Pick<Revocations, 'current'>;
  config: { computeNamespace: string };
  trustScope: () => TrustScope | undefined;
  /** The holder of the writer's lease as this replica last saw it; '' where there is none. */
  leaseHolder: () => string;
  /** Undefined where that is not known. */
  replicaCount: () => Promise<Replicas | undefined>;
  log: Log;
}

export function trustStatusRoutes(deps: TrustStatusDeps): Router {
  const { mappings, statuses, leaseHolder } = deps;
  const router = Router();

  router.get('/trust_status', async (req, res) => {
    const holder = leaseHolder();
    const leader = { lease_holder: holder === '' ? null : holder };
    const asked = req.query.proxy_iam_role_arn;
    if (asked === undefined) {
      res.json({ ...leader, ...(await statusOfAll(req.query, deps)) });
      return;
    }
    refuseBesideOneRole(req.query);
    const role = String(asked);
    refuseUnmanaged(role);
    const compared = await compareNow(deps, role);
    const from = sourcesOf(deps);
    const pools = poolReports(from).filter(({ proxy_iam_role_arns: proxies }) => proxies.includes(role));
    res.json({ ...leader, compared, proxy_roles: [roleReport(role, from)], pools });
  });

  router.post('/release_brake', async (req, res) => {
    const { proxy_iam_role_arn: role } = req.body as { proxy_iam_role_arn: string };
    const found = await releaseRemovals(role, deps);
    if (!found) refuseUnmanaged(role);
    const brake = found?.guard;
    if (brake) audit(deps.log, res, 'brake', { role, held: brake.held }, 'the brake was released');
    res.json({ proxy_iam_role_arn: role, released: brake?.held ?? [] });
  });

  /** A role that no mapping names any more keeps its status, and counts, until its last member is removed. */
  function refuseUnmanaged(role: string): void {
    if (mappings.current().managedProxies.has(role) || statuses.get(role) !== undefined) return;
    const detail = 'No mapping names this proxy role with a trust policy that irsa-svc manages.';
    throw new ApiError('role_not_managed', detail);
  }

  return router;
}

/** @throws ApiError `invalid_request` where the query has paging parameters beside one role. */
function refuseBesideOneRole(query: Request['query']): void {
  const wrong = ['limit', 'continue', 'needs_attention'].filter((name) => query[name] !== undefined);
  if (wrong.length === 0) return;
  const message = 'not together with proxy_iam_role_arn';
  throw new ApiError('invalid_request', 'One role has no pages.', {
    errors: wrong.map((name) => ({ path: `/query/${name}`, message })),
  });
}

function sourcesOf({ mappings, statuses, accounts, config, trustScope }: TrustStatusDeps): TrustReportSources {
  return {
    mappings: mappings.current(),
    status: (arn) => statuses.get(arn)?.status,
    wanted: (account) => accounts.get(account)?.wanted,
    namespace: config.computeNamespace,
    scope: trustScope(),
  };
}

/** All proxy roles; or, where the query asks for pages, one page of them with the totals of all. */
async function statusOfAll(query: Request['query'], deps: TrustStatusDeps) {
  const from = sourcesOf(deps);
  const published = [...deps.statuses.all()].map(({ status }) => status);
  const roles = reportedRoles(from.mappings, published);
  const now = deps.clock.now();
  const isWanted = (arn: string) => String(query.needs_attention) !== 'true' || needsAttention(from.status(arn), now);
  const wanted = roles.filter(isWanted);
  const isPaged = query.limit !== undefined || query.continue !== undefined;
  const page = pageQuery(query);
  const { items, next } = isPaged ? pageOf(wanted, (arn) => arn, page, 'ascending') : { items: wanted };
  const isFirst = page.after === undefined;
  const { podIdentity, pods } = deps;
  const isKnown = isFirst && podIdentity?.isSynced();
  const podIdentities = podIdentity && isKnown ? podIdentityReports(podIdentitySources(podIdentity, pods)) : undefined;
  return {
    proxy_roles: await roleReports(items, from),
    pools: isFirst ? poolReports(from) : [],
    pod_identities: podIdentities,
    totals: isPaged ? { ...trustTotals(roles, from, now), ...(await totalsOfService(deps)) } : undefined,
    next,
  };
}

async function totalsOfService({ revocations, replicaCount }: TrustStatusDeps) {
  return { revoked_runs: revocations.current().size, replicas: (await replicaCount()) ?? null };
}
