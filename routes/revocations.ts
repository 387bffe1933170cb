/** Owns the calls on revoked runs: administrators revoke a run, preview that, allow it again, and list revoked runs. */
import { Router } from 'express';
import { previewRevocation } from '../src/grants/revocation-preview.ts';
import {
  accountsOf,
  accountsOrNotFound,
  heldBy,
  type RunRemovalDeps,
  readAccounts,
  untilRemoved,
  waysOf,
} from '../src/grants/run-removal.ts';
import { audit } from '../src/http/audit.ts';
import { callerOf, isDryRun } from '../src/http/middleware.ts';
import { pageOf, pageQuery } from '../src/http/page.ts';
import type { Config } from '../src/lib/config.ts';
import type { Log } from '../src/lib/log.ts';
import { revokedTokens } from '../src/runs/held-tokens.ts';
import { type Revocation, type Revocations, revocationReport } from '../src/runs/revocations.ts';
import { requireRunId } from '../src/runs/runs.ts';

export interface RevocationDeps extends RunRemovalDeps {
  config: Pick<Config, 'roleTokenSeconds'>;
  revocations: Revocations;
  log: Log;
}

export function revocationRoutes(deps: RevocationDeps): Router {
  const { revocations, clock, log } = deps;
  const router = Router();

  router.post('/revoke_run', async (req, res) => {
    const { run_id, reason } = req.body as { run_id: string; reason?: string };
    const run = requireRunId(run_id);
    const known = revocations.get(run);
    const names = known ? accountsOf(run, deps) : await accountsOrNotFound(run, deps);
    if (isDryRun(req)) {
      res.json({
        dry_run: true,
        run_id: run,
        revoked: known !== undefined,
        ...(known && revocationReport(known)),
        ...(await previewRevocation(run, names, deps, known?.tokens)),
      });
      return;
    }
    const held = heldBy(names, { ...deps, accounts: await readAccounts(names, deps) }, known?.tokens);
    const before = waysOf(names, deps, held).map(({ proxy_iam_role_arn: arn }) => arn);
    const { id, name } = callerOf(res);
    const at = new Date(clock.now()).toISOString();
    const tokens = revokedTokens(held, clock.now(), deps.config.roleTokenSeconds * 1000);
    const { record, added } = await revocations.revoke(run, { by: name, by_id: id, at, reason, tokens });
    const decision = added ? 'revoked' : 'revoked already';
    audit(log, res, 'revocation', { decision, run, reason, accounts: names, roles: before }, `run ${decision}`);
    const stillIn = await untilRemoved(names, held, before, deps);
    res.json({
      run_id: run,
      revoked: true,
      ...revocationReport(record),
      service_accounts: names,
      proxy_iam_role_arns: before,
      left: stillIn.length === 0,
      still_in: stillIn.length > 0 ? stillIn : undefined,
    });
  });

  router.get('/revoked_runs', (req, res) => {
    const keyOf = ([run, { at }]: [string, Revocation]) => `${at} ${run}`;
    const all = [...revocations.current()].sort((a, b) => (keyOf(a) < keyOf(b) ? 1 : -1));
    const { items, next } = pageOf(all, keyOf, pageQuery(req.query), 'descending');
    const runs = items.map(([run, record]) => {
      const live = deps.pods.ofRun(run);
      const user = live.find(({ userName }) => userName !== undefined)?.userName;
      return { run_id: run, ...revocationReport(record), user, live_pods: live.length };
    });
    res.json({ revoked_runs: runs, total: all.length, next });
  });

  router.post('/allow_run', async (req, res) => {
    const { run_id } = req.body as { run_id: string };
    const run = requireRunId(run_id);
    const record = await revocations.allow(run);
    if (!record) await accountsOrNotFound(run, deps);
    const decision = record ? 'allowed' : 'allowed already';
    audit(log, res, 'revocation', { decision, run }, `run ${decision}`);
    res.json({ run_id: run, revoked: false, was_revoked: record !== undefined });
  });

  return router;
}
