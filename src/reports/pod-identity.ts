/** Owns the reports on Pod Identities: which parts are in place, what is missing, and which pods to restart. Pure. */
import type { Pod } from '../kubernetes/client.ts';
import type { PodIdentities, PodIdentityMapping } from '../pod-identity/mappings.ts';
import { beganBeforeMapping } from '../pod-identity/mutation-rules.ts';
import { contentOf, contentOfStatus, sameContent } from '../pod-identity/record.ts';
import type { PodIdentity } from '../pod-identity/setup.ts';
import type { PodIdentityStatus } from '../pod-identity/status.ts';
import type { PodIndex } from '../runs/runs.ts';
import { adviceFor } from './advice.ts';
import { compare } from './trust.ts';

/** The data of the reports, all from caches. */
export interface PodIdentityReportSources {
  identities: PodIdentities;
  status: (account: string) => PodIdentityStatus | undefined;
  statuses: () => Iterable<PodIdentityStatus>;
  pods: Iterable<Pod>;
  /** Whether domsed's Mutations can be read: otherwise nothing is created. */
  knowsMutation: boolean;
}

/** The sources of reports on Pod Identities, from this replica's caches. */
export function podIdentitySources(podIdentity: PodIdentity, pods: PodIndex): PodIdentityReportSources {
  const { statuses } = podIdentity;
  return {
    identities: podIdentity.identities.current(),
    status: (account) => statuses.get(account)?.status,
    statuses: () => [...statuses.all()].map(({ status }) => status),
    pods: pods.all(),
    knowsMutation: podIdentity.isReady(),
  };
}

/** A live pod that was created before its account had the role, and therefore lacks it. */
export interface PodToRestart {
  pod: string;
  run_id: string | undefined;
  why: 'before_association' | 'before_mapping';
}

type Wanted = Pick<
  PodIdentityStatus,
  'domino_user' | 'service_account' | 'iam_role_arn' | 'target_role_arn' | 'session_tags' | 'policy'
>;

export interface PodIdentityReport
  extends Wanted,
    Pick<PodIdentityStatus, 'state' | 'association' | 'credentials' | 'drift' | 'contested_until'> {
  parts?: PodIdentityStatus['parts'];
  code?: string | undefined;
  reason?: string | undefined;
  /** AWS's own words, for administrators: they can name other principals. */
  said?: string | undefined;
  since?: string | undefined;
  advice: string;
  /** The live pods that have the role. */
  pods: string[];
  restart: PodToRestart[];
}

/** The reports for all mapped users, and for Pod Identities that are being removed, sorted by user. */
export function podIdentityReports(sources: PodIdentityReportSources): PodIdentityReport[] {
  const { identities } = sources;
  const pods = Map.groupBy(sources.pods, ({ userName }) => userName);
  const byUser = Map.groupBy(sources.statuses(), ({ domino_user: user }) => user);
  const named = new Map([...identities.byUser.values()].map((mapping) => [mapping.service_account, mapping]));
  const isLeaving = ({ service_account: account, domino_user: user }: PodIdentityStatus) =>
    named.get(account)?.domino_user !== user || identities.replaced.has(user);
  const leaving = [...sources.statuses()].filter(isLeaving);
  // Where another person has the name now, the status of what is being removed is reported, while there is one.
  const isReportedBelow = ({ domino_user: user }: PodIdentityMapping) =>
    identities.replaced.has(user) && leaving.some((status) => status.domino_user === user);
  const mapped = [...identities.byUser.values()]
    .filter((mapping) => !isReportedBelow(mapping))
    .map((mapping) => report(mapping, sources, pods, byUser.get(mapping.domino_user) ?? []));
  const reports = [...mapped, ...leaving.map((status) => statusReport(status, pods, identities))];
  return reports.sort((a, b) => compare(a.domino_user, b.domino_user) || compare(a.service_account, b.service_account));
}

/** The report for one user; undefined where there is none, or it belongs to another person with the name. */
export function podIdentityOf(
  { id, name }: { id: string; name: string },
  sources: PodIdentityReportSources,
): PodIdentityReport | undefined {
  if ((sources.identities.byUser.get(name)?.domino_user_id ?? id) !== id) return undefined;
  const found = ownReport(name, sources);
  if (!found) return undefined;
  const { said: _forAdministrators, credentials, ...own } = found;
  return { ...own, credentials: credentials && { seen: credentials.seen } };
}

function ownReport(user: string, sources: PodIdentityReportSources): PodIdentityReport | undefined {
  const own = [...sources.pods].filter(({ userName }) => userName === user);
  const pods = new Map<string | undefined, Pod[]>([[user, own]]);
  const mapping = sources.identities.byUser.get(user);
  const statuses = [...sources.statuses()].filter((status) => status.domino_user === user);
  if (mapping) return report(mapping, sources, pods, statuses);
  const [left] = statuses;
  return left && statusReport(left, pods, sources.identities);
}

type PodsByUser = ReadonlyMap<string | undefined, readonly Pod[]>;

/** @param own the user's statuses: that of the mapping's account, and of those that the user had before. */
function report(
  mapping: PodIdentityMapping,
  { identities, status: statusOf, knowsMutation }: PodIdentityReportSources,
  pods: PodsByUser,
  own: readonly PodIdentityStatus[],
): PodIdentityReport {
  const { domino_user: user, service_account: account } = mapping;
  const status = statusOf(account);
  if (status?.domino_user === user) {
    const former = new Set(own.map((one) => one.service_account));
    former.delete(account);
    return statusReport(status, pods, identities, mapping, former);
  }
  const owner = status?.domino_user;
  const held = {
    code: 'name_taken',
    detail: `service account ${account} is still another user's; that has to be removed first`,
  };
  const problem =
    identities.problems.get(user) ?? identities.replaced.get(user) ?? (owner === undefined ? undefined : held);
  const code = problem?.code ?? (knowsMutation ? 'not_checked_yet' : 'mutations_unknown');
  return {
    ...wantedOf(mapping),
    state: problem && problem !== held ? 'refused' : 'pending',
    code,
    reason: problem?.detail,
    advice: adviceFor('pod_identity', code),
    pods: [],
    restart: [],
  };
}

function statusReport(
  status: PodIdentityStatus,
  pods: PodsByUser,
  identities: PodIdentities,
  mapping?: PodIdentityMapping,
  former?: ReadonlySet<string>,
): PodIdentityReport {
  const { domino_user: user, service_account: account, reason, association } = status;
  // The mapping was changed, and the leader has not published that yet.
  const isBehind = mapping !== undefined && !sameContent(contentOfStatus(status), contentOf(mapping));
  const isFrozen = identities.problems.has(user);
  const isLeaving = mapping === undefined && !isFrozen;
  const state = isLeaving ? 'leaving' : isBehind ? 'pending' : status.state;
  const wanted = mapping ? wantedOf(mapping) : wantedBefore(status);
  const code = isBehind ? 'not_checked_yet' : reason?.code;
  const own = pods.get(user) ?? [];
  const restart = isLeaving ? [] : podsToRestart(own, status, former);
  const missed = new Set(restart.map(({ pod }) => pod));
  const having = association ? own.filter((pod) => pod.account === account && !missed.has(pod.name)) : [];
  return {
    ...wanted,
    state,
    parts: status.parts,
    association,
    credentials: status.credentials,
    code,
    ...(isBehind || !reason ? {} : { reason: reason.detail, since: reason.at, said: reason.said }),
    advice: adviceFor('pod_identity', code ?? (isLeaving ? 'leaving' : restart.length > 0 ? 'restart' : 'in_place')),
    pods: having.map(({ name }) => name).sort(),
    restart,
    drift: status.drift,
    contested_until: status.contested_until,
  };
}

function wantedOf({ disable_session_tags: isOff, ...mapping }: PodIdentityMapping) {
  return wantedBefore({ ...mapping, session_tags: !isOff });
}

function wantedBefore({ domino_user, service_account, iam_role_arn, target_role_arn, session_tags, policy }: Wanted) {
  return { domino_user, service_account, iam_role_arn, session_tags, target_role_arn, policy };
}

/**
 * EKS gives credentials only to pods that are created some seconds after the association, and domsed gives the account only
 * to pods that are created after the Mutation.
 * https://docs.aws.amazon.com/eks/latest/userguide/pod-identities.html#pod-id-considerations
 */
function podsToRestart(own: readonly Pod[], status: PodIdentityStatus, former?: ReadonlySet<string>): PodToRestart[] {
  const { association, service_account: account } = status;
  if (!association) return [];
  return own
    .flatMap((pod): PodToRestart[] => {
      const about = { pod: pod.name, run_id: pod.run };
      if (pod.account === account) return pod.hasPodIdentity ? [] : [{ ...about, why: 'before_association' }];
      return beganBeforeMapping(pod, former) ? [{ ...about, why: 'before_mapping' }] : [];
    })
    .sort((a, b) => compare(a.pod, b.pod));
}
