/** Owns `GET /my_access`: a user's mappings, and how they fare for a run of theirs. It reads caches, and writes nothing. */
import { Router } from 'express';
import { type AccessSources, accessReport, type RunSeen } from '../src/access-report.ts';
import type { Caller } from '../src/caller.ts';
import { ApiError } from '../src/errors.ts';
import type { Pod, ServiceAccount } from '../src/kubernetes.ts';
import type { Watched } from '../src/kubernetes-watch.ts';
import type { MappingStore } from '../src/mapping-store.ts';
import { callerOf } from '../src/middleware.ts';
import type { PodIdentity } from '../src/pod-identity.ts';
import { podIdentityOf } from '../src/pod-identity-report.ts';
import { type Revocations, revocationFor, revokedSentence } from '../src/revocations.ts';
import { allStartedBy, type PodIndex, parseRunId } from '../src/runs.ts';
import type { TrustStatuses } from '../src/trust-status.ts';
import { askersOf, parseWant } from '../src/wants.ts';
import { podIdentitySources } from './pod-identities.ts';

export interface MyAccessDeps {
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  mappings: MappingStore;
  podIdentity: PodIdentity | undefined;
  statuses: TrustStatuses;
  revocations: Revocations;
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
    };
    const { podIdentity } = deps;
    const own = podIdentity?.isSynced() && podIdentityOf(caller.name, podIdentitySources(podIdentity, deps.pods));
    const about = { user: caller.name, domino_orgs: caller.orgs, ...(own ? { pod_identity: own } : {}) };
    if (req.query.run_id === undefined) {
      res.json({ ...about, access: accessReport(sources) });
      return;
    }
    const id = parseRunId(String(req.query.run_id));
    if (id === undefined) throw new ApiError('invalid_request', 'run_id is the 24 hex digits of a run.');
    const live = deps.pods.ofRun(id).filter((pod) => pod.user === caller.id);
    if (live.length === 0) {
      const detail = 'There is no live pod of this run that you started. Is it running, and is it yours?';
      throw new ApiError('run_not_found', detail);
    }
    const run = runSeen(id, live, caller);
    const summary = { run_id: id, live_pods: live.length, service_accounts: run.accounts.map(({ name }) => name) };
    const asked = run.accounts.flatMap(({ want }) => (want && askersOf(want).has(id) ? want.at : [])).sort();
    const [askedAt] = asked;
    res.json({
      ...about,
      run: { ...summary, ...(askedAt === undefined ? {} : { asked_at: askedAt }) },
      access: accessReport(sources, run),
    });
  });

  function runSeen(id: string, own: readonly Pod[], caller: Caller): RunSeen {
    const names = [...new Set(own.map(({ account }) => account))].sort();
    // The reason of another user's revocation is not for this one to read.
    const ofAccount = (name: string) => deps.pods.ofAccount(name).filter((pod) => pod.user === caller.id);
    const revoked = revocationFor(id, names, { ofAccount }, deps.revocations);
    return {
      id,
      accounts: names.map((name) => ({
        name,
        want: parseWant(deps.accounts.get(name)?.wanted),
        shared: !allStartedBy(deps.pods.ofAccount(name), caller.id),
      })),
      revoked: revoked && revokedSentence(revoked),
    };
  }

  return router;
}
