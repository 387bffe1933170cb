/** Owns `GET /trust_status`: who is in which proxy role, for administrators, from what the writer publishes. */
import { Router } from 'express';
import { type ComparisonDeps, compareNow } from '../src/comparison.ts';
import { ApiError } from '../src/errors.ts';
import type { ServiceAccount } from '../src/kubernetes.ts';
import type { Watched } from '../src/kubernetes-watch.ts';
import type { MappingStore } from '../src/mapping-store.ts';
import { adminOnly } from '../src/middleware.ts';
import { poolReports, roleReport, type TrustReportSources } from '../src/trust-report.ts';

export interface TrustStatusDeps extends ComparisonDeps {
  accounts: Watched<ServiceAccount>;
  mappings: MappingStore;
  config: { computeNamespace: string };
  /** Who holds the writer's lease as far as this replica knows; '' for nobody. */
  leaseHolder: () => string;
}

export function trustStatusRoutes(deps: TrustStatusDeps): Router {
  const { accounts, mappings, statuses, leaseHolder } = deps;
  const router = Router();

  router.get('/trust_status', adminOnly, async (req, res) => {
    const holder = leaseHolder();
    const writer = { lease_holder: holder === '' ? null : holder };
    const asked = req.query.proxy_iam_role_arn;
    if (asked === undefined) {
      const published = [...statuses.all()].map(({ status }) => status.role_arn);
      const roles = [...mappings.current().managedProxies.union(new Set(published))].sort();
      const from = sources();
      res.json({ ...writer, proxy_roles: roles.map((arn) => roleReport(arn, from)), pools: poolReports(from) });
      return;
    }
    const role = String(asked);
    if (!isOurs(role)) {
      const detail = 'No mapping names this proxy role as one whose trust policy is kept here.';
      throw new ApiError('role_not_managed', detail);
    }
    const compared = await compareNow(deps, role);
    const from = sources();
    const pools = poolReports(from).filter(({ proxy_iam_role_arns: proxies }) => proxies.includes(role));
    res.json({ ...writer, compared, proxy_roles: [roleReport(role, from)], pools });
  });

  /** One that no mapping names any more counts until its last member left. */
  function isOurs(role: string): boolean {
    return mappings.current().managedProxies.has(role) || statuses.get(role) !== undefined;
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
