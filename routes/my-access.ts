/** Owns `GET /my_access`: a user's mappings, and whether one of the user's runs has the roles. It only reads caches. */
import { Router } from 'express';
import type { Memberships } from '../src/grants/membership.ts';
import { callerOf } from '../src/http/middleware.ts';
import type { MappingStore } from '../src/mappings/store.ts';
import type { PodIdentity } from '../src/pod-identity/setup.ts';
import type { TrustStatuses } from '../src/proxy-roles/status.ts';
import { type AccessSources, accessReport } from '../src/reports/access.ts';
import { podIdentityOf, podIdentitySources } from '../src/reports/pod-identity.ts';
import { type RunSeenDeps, runOfUser } from '../src/reports/run-seen.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface MyAccessDeps extends RunSeenDeps {
  mappings: MappingStore;
  memberships: Pick<Memberships, 'of'>;
  podIdentity: PodIdentity | undefined;
  statuses: TrustStatuses;
  config: { computeNamespace: string };
}

export function myAccessRoutes(deps: MyAccessDeps): Router {
  const router = Router();

  router.get('/my_access', (req, res) => {
    const caller = callerOf(res);
    const sources: AccessSources = {
      caller,
      mappings: deps.mappings.current(),
      status: (arn) => deps.statuses.get(arn)?.status,
      namespace: deps.config.computeNamespace,
      refused: deps.memberships.of(caller).refused,
    };
    const { podIdentity } = deps;
    const own = podIdentity?.isSynced() ? podIdentityOf(caller, podIdentitySources(podIdentity, deps.pods)) : undefined;
    const about = { user: caller.name, domino_orgs: caller.orgs, pod_identity: own };
    if (req.query.run_id === undefined) {
      res.json({ ...about, access: accessReport(sources) });
      return;
    }
    const { run, summary } = runOfUser(requireRunId(String(req.query.run_id)), caller.id, deps);
    res.json({ ...about, run: summary, access: accessReport(sources, run) });
  });

  return router;
}
