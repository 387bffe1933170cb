/** Owns `GET /trust_status` and `POST /release_brake`: what administrators see of proxy roles, and let go. */
import { Router } from 'express';
import { type ComparisonDeps, compareNow } from '../src/comparison.ts';
import { ApiError } from '../src/errors.ts';
import type { ConfigMap, Kubernetes, ServiceAccount } from '../src/kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from '../src/kubernetes-api.ts';
import type { Watched } from '../src/kubernetes-watch.ts';
import type { Log } from '../src/log.ts';
import type { MappingStore } from '../src/mapping-store.ts';
import { adminOnly, callerOf, requestIdOf } from '../src/middleware.ts';
import type { PodIdentity } from '../src/pod-identity.ts';
import { podIdentityReports } from '../src/pod-identity-report.ts';
import type { PodIndex } from '../src/runs.ts';
import { poolReports, roleReport, type TrustReportSources } from '../src/trust-report.ts';
import { releaseAnnotation, statusName, type TrustStatus, trustStatusForm } from '../src/trust-status.ts';
import { podIdentitySources } from './pod-identities.ts';

export interface TrustStatusDeps extends ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'getConfigMap' | 'annotateConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  podIdentity: PodIdentity | undefined;
  mappings: MappingStore;
  config: { computeNamespace: string };
  /** Who holds the writer's lease as far as this replica knows; '' for nobody. */
  leaseHolder: () => string;
  log: Log;
}

export function trustStatusRoutes(deps: TrustStatusDeps): Router {
  const { accounts, mappings, statuses, leaseHolder } = deps;
  const router = Router();

  router.get('/trust_status', adminOnly, async (req, res) => {
    const holder = leaseHolder();
    const writer = { lease_holder: holder === '' ? null : holder };
    const asked = req.query.proxy_iam_role_arn;
    if (asked === undefined) {
      // A role that Pod Identity alone is about is told of with its users.
      const isProxy = ({ pods, members }: TrustStatus) => !pods || Object.keys(members).length > 0;
      const published = [...statuses.all()].flatMap(({ status }) => (isProxy(status) ? [status.role_arn] : []));
      const roles = [...mappings.current().managedProxies.union(new Set(published))].sort();
      const from = sources();
      const podIdentities = deps.podIdentity?.isSynced()
        ? { pod_identities: podIdentityReports(podIdentitySources(deps.podIdentity, deps.pods)) }
        : {};
      const proxyRoles = roles.map((arn) => roleReport(arn, from));
      res.json({ ...writer, proxy_roles: proxyRoles, pools: poolReports(from), ...podIdentities });
      return;
    }
    const role = String(asked);
    refuseForeign(role);
    const compared = await compareNow(deps, role);
    const from = sources();
    const pools = poolReports(from).filter(({ proxy_iam_role_arns: proxies }) => proxies.includes(role));
    res.json({ ...writer, compared, proxy_roles: [roleReport(role, from)], pools });
  });

  router.post('/release_brake', adminOnly, async (req, res) => {
    const { proxy_iam_role_arn: role } = req.body as { proxy_iam_role_arn: string };
    // From the API server itself: the brake is for when the caches cannot be believed.
    const known = await kept(() => deps.kubernetes.getConfigMap(statusName(role)));
    if (!known) refuseForeign(role);
    const brake = known && trustStatusForm.parse(known.data)?.brake;
    if (known && brake) {
      // The holder's clock may be ahead of ours: what it has held since then is what is meant.
      const at = new Date(Math.max(deps.clock.now(), Date.parse(brake.since))).toISOString();
      await kept(() => deps.kubernetes.annotateConfigMap(known.name, { [releaseAnnotation]: at }));
      const { id, name } = callerOf(res);
      const about = { audit: 'brake', request_id: requestIdOf(res), user: name, user_id: id, role, held: brake.held };
      deps.log.info(about, 'the brake was released');
    }
    res.json({ proxy_iam_role_arn: role, released: brake?.held ?? [] });
  });

  /** One that no mapping names any more counts until its last member left. */
  function refuseForeign(role: string): void {
    if (mappings.current().managedProxies.has(role) || statuses.get(role) !== undefined) return;
    const detail = 'No mapping names this proxy role as one whose trust policy is kept here.';
    throw new ApiError('role_not_managed', detail);
  }

  function sources(): TrustReportSources {
    return {
      mappings: mappings.current(),
      status: (arn) => statuses.get(arn)?.status,
      wanted: (account) => accounts.get(account)?.wanted,
      namespace: deps.config.computeNamespace,
    };
  }

  return router;
}

/** @returns undefined where the ConfigMap was withdrawn in the meantime. @throws ApiError `kubernetes_unavailable` */
async function kept(call: () => Promise<ConfigMap | undefined>): Promise<ConfigMap | undefined> {
  try {
    return await call();
  } catch (error) {
    if (error instanceof KubernetesError && error.kind === 'not_found') return undefined;
    throw kubernetesUnavailable(error);
  }
}
