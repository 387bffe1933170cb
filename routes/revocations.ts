/** Owns `POST /revoke_run` and `POST /allow_run`: an administrator shuts a run out of its roles, and lets it in again. */
import { type Response, Router } from 'express';
import type { Clock } from '../src/clock.ts';
import { compareNow } from '../src/comparison.ts';
import { ApiError } from '../src/errors.ts';
import type { Kubernetes, ServiceAccount } from '../src/kubernetes.ts';
import { kubernetesUnavailable } from '../src/kubernetes-api.ts';
import type { Watched } from '../src/kubernetes-watch.ts';
import type { Log } from '../src/log.ts';
import { adminOnly, callerOf, requestIdOf } from '../src/middleware.ts';
import type { Revocation, Revocations } from '../src/revocations.ts';
import { type PodIndex, parseRunId } from '../src/runs.ts';
import { untilPublished } from '../src/status-wait.ts';
import type { TrustStatuses } from '../src/trust-status.ts';
import { parseWant } from '../src/wants.ts';

export interface RevocationDeps {
  kubernetes: Pick<Kubernetes, 'listPods' | 'annotateConfigMap'>;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  revocations: Revocations;
  clock: Clock;
  log: Log;
}

/** How long an answer waits for IAM to have accepted the documents without the run. */
const maxWaitMs = 5_000;

export function revocationRoutes(deps: RevocationDeps): Router {
  const { accounts, pods, statuses, revocations, clock, log } = deps;
  const router = Router();

  router.post('/revoke_run', adminOnly, async (req, res) => {
    const { run_id, reason } = req.body as { run_id: string; reason?: string };
    const run = runOf(run_id);
    const known = revocations.get(run);
    const names = known ? accountsOf(run) : await accountsOrNotFound(run);
    const before = rolesWith(names);
    const { id, name } = callerOf(res);
    const at = new Date(clock.now()).toISOString();
    const made = { by: name, by_id: id, at, ...(reason === undefined ? {} : { reason }) };
    const { record, added } = await revocations.revoke(run, made);
    audit(res, added ? 'revoked' : 'revoked already', run, { reason, accounts: names, roles: before });
    // A write that lets it in may be under way: where it wants a role that it is not published in, the writer is asked.
    const askedAt = clock.monotonic();
    const asked = rolesUnsettled(names, before).map((role) => compareNow(deps, role).catch(() => false));
    const compared = await Promise.all(asked);
    const leftMs = Math.max(0, maxWaitMs - (clock.monotonic() - askedAt));
    const gone = await untilPublished(statuses, clock, leftMs, () => rolesWith(names).length === 0);
    res.json({
      run_id: run,
      revoked: true,
      ...described(record),
      service_accounts: names,
      proxy_iam_role_arns: before,
      // What an earlier release put in is not among what is published.
      left: gone && compared.every(Boolean) && names.every((account) => accounts.get(account)?.wanted !== undefined),
    });
  });

  router.post('/allow_run', adminOnly, async (req, res) => {
    const { run_id } = req.body as { run_id: string };
    const run = runOf(run_id);
    const record = await revocations.allow(run);
    if (!record) await accountsOrNotFound(run);
    audit(res, record ? 'allowed' : 'allowed already', run, {});
    res.json({ run_id: run, revoked: false, was_revoked: record !== undefined });
  });

  /** The accounts of the run's live pods, and those that carry a want of it. */
  function accountsOf(run: string): string[] {
    const used = pods.ofRun(run).map(({ account }) => account);
    const wanting = [...accounts.values()].filter(
      ({ wanted }) => wanted?.includes(run) === true && parseWant(wanted)?.run === run,
    );
    return [...new Set([...used, ...wanting.map(({ name }) => name)])].sort();
  }

  async function accountsOrNotFound(run: string): Promise<string[]> {
    const known = accountsOf(run);
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

  /** The proxy roles, known to the writer, that a write under way may let these accounts into. */
  function rolesUnsettled(names: readonly string[], settled: readonly string[]): string[] {
    const wanted = names.flatMap((name) => parseWant(accounts.get(name)?.wanted)?.roles ?? []);
    const open = wanted.filter(({ proxies }) => !proxies.some(({ arn }) => settled.includes(arn)));
    return [...new Set(open.flatMap(({ proxies }) => proxies.map(({ arn }) => arn)))].filter((arn) =>
      statuses.get(arn),
    );
  }

  function rolesWith(names: readonly string[]): string[] {
    return [...statuses.all()]
      .filter(({ status }) => names.some((name) => Object.hasOwn(status.members, name)))
      .map(({ status }) => status.role_arn)
      .sort();
  }

  function audit(res: Response, decision: string, run: string, more: object) {
    const { id, name } = callerOf(res);
    const about = {
      audit: 'revocation',
      request_id: requestIdOf(res),
      user: name,
      user_id: id,
      decision,
      run,
      ...more,
    };
    log.info(about, `run ${decision}`);
  }

  return router;
}

function runOf(text: string): string {
  const run = parseRunId(text);
  if (run === undefined) throw new ApiError('invalid_request', 'run_id is the 24 hex digits of a run.');
  return run;
}

function described({ by, at, reason }: Revocation) {
  return { revoked_by: by, revoked_at: at, ...(reason === undefined ? {} : { reason }) };
}
