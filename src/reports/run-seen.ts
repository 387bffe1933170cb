/** Owns what reports show of a run: its service accounts, whether other users share them, and its revocation. */
import type { ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { ApiError } from '../lib/errors.ts';
import { type Revocations, revocationFor, revokedSentence } from '../runs/revocations.ts';
import { askersOf, parseRoleRequest } from '../runs/role-request.ts';
import { accountNames, allStartedBy, noPod, type PodIndex } from '../runs/runs.ts';
import type { RunSeen } from './access.ts';

export interface RunSeenDeps {
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  revocations: Revocations;
}

/** @param id 24 hex digits. @param userId of the user who asks. @throws ApiError `run_not_found` */
export function runOfUser(id: string, userId: string, deps: RunSeenDeps) {
  const live = deps.pods.ofRun(id).filter((pod) => pod.user === userId);
  if (live.length === 0) throw new ApiError('run_not_found', noPod);
  // A user may not read the reason of another user's revocation.
  const ofAccount = (name: string) => deps.pods.ofAccount(name).filter((pod) => pod.user === userId);
  const run = runSeen({ id, userId, names: accountNames(live), ofAccount }, deps);
  return { run, summary: runSummary(run, live.length) };
}

interface Seen {
  id: string;
  userId: string;
  /** The run's service accounts. */
  names: readonly string[];
  /** The pods of a service account whose runs' revocations count. */
  ofAccount: PodIndex['ofAccount'];
}

export function runSeen({ id, userId, names, ofAccount }: Seen, { accounts, pods, revocations }: RunSeenDeps): RunSeen {
  const revoked = revocationFor(id, names, { ofAccount }, revocations);
  return {
    id,
    accounts: names.map((name) => ({
      name,
      request: parseRoleRequest(accounts.get(name)?.wanted),
      shared: pods.ofAccount(name).length > 0 && !allStartedBy(pods.ofAccount(name), userId),
    })),
    revoked: revoked && revokedSentence(revoked),
  };
}

export interface RunSummary {
  run_id: string;
  live_pods: number;
  service_accounts: string[];
  asked_at: string | undefined;
}

export function runSummary({ id, accounts }: RunSeen, livePods: number): RunSummary {
  const [askedAt] = accounts.flatMap(({ request }) => (request && askersOf(request).has(id) ? request.at : [])).sort();
  return { run_id: id, live_pods: livePods, service_accounts: accounts.map(({ name }) => name), asked_at: askedAt };
}
