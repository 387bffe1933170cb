/** Owns the findings that need an administrator, most urgent first: reason, time, and section of the runbook. Pure. */
import type { OrganizationRecord, PodIdentity, ProxyRole, RoleMappings, TrustStatus, Waiting } from './types.ts';

/** Another organization with the name of the one that was mapped. */
export interface Contested {
  readonly name: string;
  /** The id that the name stands for now; null where it cannot be read. */
  readonly recorded: string | null;
  readonly id: string;
  /** Its member who requested roles, and when. */
  readonly user: string;
  readonly at: string;
}

export interface Need {
  /** The name of the alert, and of the runbook's section. */
  readonly alert: string;
  readonly title: string;
  readonly reason: string;
  /** AWS's own message. */
  readonly said?: string;
  readonly since?: string;
  /** The proxy role of the finding. */
  readonly role?: string;
  /** Runs that wait, with the people who started them. */
  readonly runs: readonly { run_id: string; user?: string }[];
  readonly action?: 'release';
  /** The other organizations whose members requested the roles of a mapped name. */
  readonly contested?: readonly Contested[];
  /** The least rank comes first. */
  readonly rank: number;
}

export function needsOf(status: TrustStatus, mappings: RoleMappings | undefined): Need[] {
  const needs = [
    ...(status.lease_holder ? [] : [noLeader]),
    ...notChecked(status.totals?.not_checked_yet ?? 0),
    ...status.proxy_roles.flatMap(needsOfRole),
    ...(status.pod_identities ?? []).flatMap(needsOfPodIdentity),
    ...Object.entries(mappings?.organizations ?? {})
      .filter(([org]) => Object.hasOwn(mappings?.all_role_mappings ?? {}, org))
      .flatMap(([org, record]) => contested(org, record)),
  ];
  return needs.sort((a, b) => a.rank - b.rank || (a.since ?? '').localeCompare(b.since ?? ''));
}

const noLeader: Need = {
  alert: 'IrsaNoWriter',
  title: 'There is no leader',
  reason:
    'No replica holds the lease, so no trust policy is written: new runs wait, and ended runs keep their entries.',
  runs: [],
  rank: 0,
};

function notChecked(roles: number): Need[] {
  if (roles === 0) return [];
  const title = `${count(roles, 'proxy role was', 'proxy roles were')} not compared with IAM yet`;
  const reason = 'What their trust policies say is not known. A new mapping takes seconds; minutes are too long.';
  return [{ alert: 'IrsaWriterStuck', title, reason, runs: [], rank: 4 }];
}

function needsOfRole(role: ProxyRole): Need[] {
  const { proxy_iam_role_arn: arn, error, brake, waiting, contested_until: contestedUntil, drift } = role;
  const problem = role.role_tokens?.problem;
  const about = { role: arn, runs: [] };
  const found: Need[] = [];
  if (error) {
    const { detail: reason, said, at: since } = error;
    const title = `The trust policy cannot be kept: ${error.code}`;
    found.push({ ...about, alert: 'IrsaProxyRoleError', title, reason, since, rank: 1, ...(said ? { said } : {}) });
  }
  if (problem) {
    const title = `Role tokens do not work as they should: ${problem.code}`;
    found.push({ ...about, alert: 'IrsaRoleTokensNotGiven', title, reason: problem.detail, rank: 2 });
  }
  if (brake) {
    const title = `${count(brake.held.length, 'member is', 'members are')} held back from removal`;
    const reason =
      'Most members would be removed at once, and the API server does not confirm that their runs have ended.';
    found.push({ ...about, alert: 'IrsaBrakeHolds', title, reason, since: brake.since, action: 'release', rank: 3 });
  }
  const byCode = Map.groupBy(waiting, ({ code }) => code);
  for (const [code, ones] of byCode) found.push(waitingNeed(arn, code, ones));
  if (contestedUntil !== undefined || drift) {
    const isContested = contestedUntil !== undefined;
    found.push({
      ...about,
      alert: 'IrsaTrustPolicyContested',
      title: isContested ? 'Another tool keeps changing the trust policy' : 'An external change was repaired',
      reason: `${drift?.missing.length ?? 0} subjects were removed, ${drift?.extra.length ?? 0} were added.`,
      rank: isContested ? 3 : 5,
      ...(drift ? { since: drift.at } : {}),
    });
  }
  return found;
}

function waitingNeed(role: string, code: string, waiting: readonly Waiting[]): Need {
  const since = waiting.flatMap(({ asked_at: at }) => at ?? []).sort()[0];
  const runs = waiting.flatMap(({ run_id, user }) => (run_id ? { run_id, ...(user ? { user } : {}) } : []));
  return {
    alert: code === 'trust_policy_full' ? 'IrsaRunsWaitForRoom' : 'IrsaProxyRoleError',
    title: `${count(waiting.length, 'run waits', 'runs wait')} for a role: ${code}`,
    reason: waiting[0]?.detail ?? '',
    role,
    runs: [...new Map(runs.map((run) => [run.run_id, run])).values()],
    rank: 2,
    ...(since === undefined ? {} : { since }),
  };
}

function needsOfPodIdentity(one: PodIdentity): Need[] {
  const isContested = one.contested_until !== undefined;
  if (one.state !== 'refused' && !isContested) return [];
  const since = one.since ?? one.drift?.at;
  return [
    {
      alert: isContested ? 'IrsaPodIdentityContested' : 'IrsaPodIdentityProblem',
      title: `Pod Identity of ${one.domino_user}: ${one.code ?? 'an external change'}`,
      reason: `${one.reason ?? ''} ${one.advice}`.trim(),
      runs: [],
      rank: 4,
      ...(one.said ? { said: one.said } : {}),
      ...(since ? { since } : {}),
    },
  ];
}

function contested(org: string, { organization_id: recorded, contenders }: OrganizationRecord): Need[] {
  const [first] = contenders;
  if (!first) return [];
  const others = contenders.map(({ organization_id: id, user, at }) => ({ name: org, recorded, id, user, at }));
  const reason = `${first.user} belongs to another organization of that name, whose members get no roles.`;
  const title = `Organization ${org} is not the one that was mapped`;
  const alert = 'IrsaOrganizationContested';
  return [{ alert, title, reason, since: first.at, runs: [], contested: others, rank: 4 }];
}

function count(number: number, one: string, many: string): string {
  return `${number} ${number === 1 ? one : many}`;
}
