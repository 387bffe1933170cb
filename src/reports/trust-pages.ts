/** Owns the reports on many proxy roles: makes them in steps that yield to the event loop, and adds them up. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { TrustStatus } from '../proxy-roles/status.ts';
import { type RoleReport, roleReport, type TrustReportSources } from './trust.ts';

/** How many role requests are parsed in one step: about a millisecond. */
const workATurn = 50;
/** For how long an external change needs attention. */
const newsMs = 24 * 60 * 60_000;

export async function roleReports(roles: readonly string[], sources: TrustReportSources): Promise<RoleReport[]> {
  const reports: RoleReport[] = [];
  let work = 0;
  for (const arn of roles) {
    const report = roleReport(arn, sources);
    reports.push(report);
    work += 1 + report.members.length + report.waiting.length;
    if (work < workATurn) continue;
    work = 0;
    await nextTurn();
  }
  return reports;
}

/** @param now milliseconds since the epoch. */
export function needsAttention(status: TrustStatus | undefined, now: number): boolean {
  if (!status) return false;
  const { error, brake, refused, tokens } = status;
  const isRefused = error !== undefined || tokens?.problem !== undefined;
  return isRefused || brake !== undefined || refused.length > 0 || isChanged(status, now);
}

function isChanged({ drift, contested_until: contested }: TrustStatus, now: number): boolean {
  return contested !== undefined || (drift !== undefined && now - Date.parse(drift.at) < newsMs);
}

/** @param roles the proxy roles that are reported. @param now milliseconds since the epoch. */
export function trustTotals(roles: readonly string[], { status }: Pick<TrustReportSources, 'status'>, now: number) {
  const known = roles.flatMap((arn) => status(arn) ?? []);
  const count = (is: (one: TrustStatus) => boolean) => known.filter(is).length;
  const members = known.map((one) => Object.keys(one.members));
  return {
    proxy_roles: roles.length,
    members: members.reduce((sum, names) => sum + names.length, 0),
    runs_with_roles: new Set(members.flat()).size,
    in_error: count(({ error }) => error !== undefined),
    waiting: new Set(known.flatMap(({ refused }) => refused.map(({ account }) => account))).size,
    external_changes: count((one) => isChanged(one, now)),
    contested: count(({ contested_until }) => contested_until !== undefined),
    held: count(({ brake }) => brake !== undefined),
    not_checked_yet: roles.length - known.length,
  };
}
