/** Owns `POST /map_iam_roles_to_pod_sa`: a run's roles, as the text of its AWS config file. */
import { Router } from 'express';
import { awsConfig } from '../src/aws-config.ts';
import type { Clock } from '../src/clock.ts';
import type { Config } from '../src/config.ts';
import { ApiError } from '../src/errors.ts';
import type { Grant, Grants } from '../src/grants.ts';
import type { Log } from '../src/log.ts';
import type { Metrics } from '../src/metrics.ts';
import { callerOf, clientGone, requestIdOf } from '../src/middleware.ts';
import { parseRunId } from '../src/runs.ts';

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
    const body = req.body as { run_id: string; irsa_workload_type?: string };
    const caller = callerOf(res);
    metrics.mappingRequests.inc();
    metrics.mappingQueries.inc();
    const audit = {
      audit: 'grant',
      request_id: requestIdOf(res),
      user: caller.name,
      user_id: caller.id,
      run: body.run_id,
      workload_type: body.irsa_workload_type,
    };
    let grant: Grant;
    try {
      const run = parseRunId(body.run_id);
      if (run === undefined) throw new ApiError('invalid_request', 'run_id is the 24 hex digits of a run.');
      grant = await grants.grant({ caller, run, workloadType: body.irsa_workload_type, signal: clientGone(res) });
      const { outcomes } = grant;
      const now = clock.now();
      const { awsRegion: region, webIdentityTokenPath: tokenPath } = config;
      res.type('text/plain').send(awsConfig({ user: caller.name, run, region, tokenPath, now, outcomes }));
    } catch (error) {
      metrics.failedMappingRequests.inc();
      const code = error instanceof ApiError ? error.code : 'internal';
      log.info({ ...audit, decision: 'refused', code }, 'roles refused');
      throw error;
    }
    metrics.settleSeconds.observe(grant.settledSeconds);
    const granted = grant.outcomes.filter(({ kind }) => kind === 'granted').map(({ target }) => target);
    const refused = grant.outcomes.filter((outcome) => outcome.kind === 'refused');
    for (const outcome of grant.outcomes) {
      metrics.roleOutcomes.inc({ outcome: outcome.kind === 'granted' ? 'granted' : outcome.code });
    }
    const accounts = grant.accounts;
    log.info({ ...audit, decision: 'granted', accounts, granted, refused }, 'roles granted');
  });

  return router;
}
