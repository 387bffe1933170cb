/** Owns `POST /map_iam_roles_to_pod_sa`: it grants a run's roles and answers with the text of its AWS config file. */
import { Router } from 'express';
import type { Caller } from '../src/auth/caller.ts';
import { awsConfig } from '../src/grants/aws-config.ts';
import type { Grant, Grants } from '../src/grants/grant.ts';
import { audit } from '../src/http/audit.ts';
import { callerOf, clientGone } from '../src/http/middleware.ts';
import type { Clock } from '../src/lib/clock.ts';
import type { Config } from '../src/lib/config.ts';
import { ApiError } from '../src/lib/errors.ts';
import type { Log } from '../src/lib/log.ts';
import type { Metrics } from '../src/lib/metrics.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface GrantDeps {
  config: Config;
  grants: Grants;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export function grantRoutes({ config, grants, clock, log, metrics }: GrantDeps): Router {
  const router = Router();

  router.post('/map_iam_roles_to_pod_sa', async (req, res) => {
    const body = req.body as { run_id: string; irsa_workload_type?: string; role_tokens?: boolean };
    const caller = callerOf(res);
    metrics.mappingRequests.inc();
    metrics.mappingQueries.inc();
    const { irsa_workload_type: workloadType, role_tokens: roleTokens = false } = body;
    const about = { run: body.run_id, workload_type: workloadType, organizations: organizationsOf(caller) };
    let grant: Grant;
    try {
      const run = requireRunId(body.run_id);
      grant = await grants.grant({ caller, run, workloadType, roleTokens, signal: clientGone(res) });
      const { outcomes, proposed } = grant;
      const now = clock.now();
      const { awsRegion: region, webIdentityTokenPath: tokenPath, roleTokenDir: tokenDir } = config;
      const { name: user, orgs } = caller;
      res.type('text/plain').send(awsConfig({ user, orgs, run, region, tokenPath, tokenDir, now, outcomes, proposed }));
    } catch (error) {
      metrics.failedMappingRequests.inc();
      const code = error instanceof ApiError ? error.code : 'internal';
      audit(log, res, 'grant', { ...about, decision: 'refused', code }, 'roles refused');
      throw error;
    }
    metrics.settleSeconds.observe(grant.settledSeconds);
    const granted = grant.outcomes.filter(({ kind }) => kind === 'granted').map(({ target }) => target);
    const refused = grant.outcomes.filter((outcome) => outcome.kind === 'refused');
    for (const outcome of grant.outcomes) {
      metrics.roleOutcomes.inc({ outcome: outcome.kind === 'granted' ? 'granted' : outcome.code });
    }
    const accounts = grant.accounts;
    audit(log, res, 'grant', { ...about, decision: 'granted', accounts, granted, refused }, 'roles granted');
  });

  return router;
}

/** For the activity record, where an administrator who looks for a missing role sees which ones Domino reported. */
function organizationsOf({ orgs, organizationIds }: Caller) {
  return orgs.flatMap((name) => (organizationIds.get(name) ?? [undefined]).map((id) => ({ name, ...(id && { id }) })));
}
