/** Owns an administrator's report on another user, or on any run: the user's mappings and live runs, and a revocation. */
import type { Membership, Organizations } from '../mappings/organizations.ts';
import type { MappingStore } from '../mappings/store.ts';
import type { PodIdentity } from '../pod-identity/setup.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import { revocationReport, revokedRun } from '../runs/revocations.ts';
import { askersOf, parseRoleRequest } from '../runs/role-request.ts';
import { accountNames } from '../runs/runs.ts';
import { type AccessSources, accessReport, type RunSeen } from './access.ts';
import { type KnownUser, type KnownUserDeps, knownMembership, type RecordedOrganizations } from './known-user.ts';
import { podIdentityReports, podIdentitySources } from './pod-identity.ts';
import { type RunSeenDeps, runSeen, runSummary } from './run-seen.ts';

export interface AccessReportDeps extends RunSeenDeps {
  mappings: MappingStore;
  memberships: { of(caller: Organizations): Membership };
  podIdentity: PodIdentity | undefined;
  statuses: TrustStatuses;
  config: { computeNamespace: string };
}

export type AccessOfDeps = AccessReportDeps & KnownUserDeps;

/** How many live runs are listed at most. */
const mostRuns = 100;

/** The data of a user's access report, all from caches. */
export function accessSources(caller: Organizations & { id: string }, deps: AccessReportDeps): AccessSources {
  return {
    caller,
    mappings: deps.mappings.current(),
    status: (arn) => deps.statuses.get(arn)?.status,
    namespace: deps.config.computeNamespace,
    refused: deps.memberships.of(caller).refused,
  };
}

export interface RunSubject {
  run: RunSeen;
  livePods: number;
  userId: string;
}

/**
 * A run by its live pods, or, where none is left, by the service accounts that have roles for it.
 * @param id 24 hex digits. @returns undefined where there is neither, or its user is not known.
 */
export function runSubject(id: string, deps: AccessOfDeps): RunSubject | undefined {
  const live = deps.pods.ofRun(id);
  const left = live.length > 0 ? [] : accountsAskingFor(id, deps);
  const names = live.length > 0 ? accountNames(live) : left.map(({ name }) => name).sort();
  const userId = live.find(({ user }) => user !== undefined)?.user ?? left[0]?.userId;
  if (userId === undefined) return undefined;
  const { ofAccount } = deps.pods;
  return { run: runSeen({ id, userId, names, ofAccount }, deps), livePods: live.length, userId };
}

function accountsAskingFor(run: string, { accounts }: AccessOfDeps): { name: string; userId: string }[] {
  return [...accounts.values()].flatMap(({ name, wanted }) => {
    // The text is searched before it is parsed: there is one for each live run of the cluster.
    const request = wanted?.includes(run) ? parseRoleRequest(wanted) : undefined;
    return request && askersOf(request).has(run) ? [{ name, userId: request.user.id }] : [];
  });
}

/** @param recorded the user's organizations in the activity record. @param about a run of the user. */
export function accessOf(
  user: KnownUser,
  recorded: RecordedOrganizations | undefined,
  about: RunSubject | undefined,
  deps: AccessOfDeps,
) {
  const membership = knownMembership(user, recorded);
  const access = accessReport(accessSources({ id: user.id, ...membership }, deps), about?.run);
  const runs = runsOf(user);
  return {
    user: user.name,
    user_id: user.id,
    ...(user.otherIds.length > 0 ? { other_user_ids: user.otherIds } : {}),
    domino_orgs: membership.orgs,
    membership: membership.known,
    pod_identity: podIdentityFor(user, deps),
    ...(about ? { run: runSummary(about.run, about.livePods), revocation: revocationOf(about.run, deps) } : {}),
    runs: runs.slice(0, mostRuns).map(([id, pods]) => {
      const seen = { id, userId: user.id, names: accountNames(pods), ofAccount: deps.pods.ofAccount };
      return runSummary(runSeen(seen, deps), pods.length);
    }),
    more_runs: Math.max(0, runs.length - mostRuns),
    access,
  };
}

/** The live runs of the user, the newest first: a run's id begins with its time. */
function runsOf({ pods }: KnownUser) {
  const byId = Map.groupBy(pods, ({ run }) => run ?? '');
  byId.delete('');
  return [...byId].sort(([a], [b]) => (a < b ? 1 : -1));
}

function podIdentityFor({ id, name }: KnownUser, { podIdentity, pods }: AccessOfDeps) {
  if (!podIdentity?.isSynced()) return undefined;
  const sources = podIdentitySources(podIdentity, pods);
  if ((sources.identities.byUser.get(name)?.domino_user_id ?? id) !== id) return undefined;
  return podIdentityReports(sources).find(({ domino_user: user }) => user === name);
}

/** The run's own revocation, or that of a run which shares a service account with it. */
function revocationOf({ id, accounts }: RunSeen, { pods, revocations }: AccessOfDeps) {
  const names = accounts.map(({ name }) => name);
  const run = revokedRun(id, names, pods, revocations);
  const record = run === undefined ? undefined : revocations.get(run);
  return record && { run_id: run, ...revocationReport(record) };
}
