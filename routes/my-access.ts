/** Owns `GET /my_access`: a user's mappings, and whether one of the user's runs has the roles. It only reads caches. */
import { Router } from 'express';
import { callerOf } from '../src/http/middleware.ts';
import { accessReport } from '../src/reports/access.ts';
import { type AccessReportDeps, accessSources } from '../src/reports/access-of.ts';
import { podIdentityOf, podIdentitySources } from '../src/reports/pod-identity.ts';
import { runOfUser } from '../src/reports/run-seen.ts';
import { requireRunId } from '../src/runs/runs.ts';

export function myAccessRoutes(deps: AccessReportDeps): Router {
  const router = Router();

  router.get('/my_access', (req, res) => {
    const caller = callerOf(res);
    const sources = accessSources(caller, deps);
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
