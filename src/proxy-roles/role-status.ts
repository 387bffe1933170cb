/** Owns the content of a proxy role's published status. Pure. */
import { driftStatus, reasonStatus } from '../reconcile/status-form.ts';
import type { ProxyRole } from './proxy-role.ts';
import type { TrustStatus } from './status.ts';

/** A ConfigMap holds 1 MiB, which members need too. A client whose refusal is left out waits, and is asked to retry. */
const mostRefusalChars = 700_000;
/** The same of those whose tokens are not to be used any more: many more than a trust policy can deny. */
const mostDenialChars = 200_000;

/** @param isProxy whether this service manages subjects in its document. @param isUnmanaged whether a mapping says so. */
export function statusOf(
  role: ProxyRole,
  { isProxy, isUnmanaged }: { isProxy: boolean; isUnmanaged: boolean },
): TrustStatus {
  const { desired, observed, conditions } = role;
  const { pods, tokens } = observed;
  const { tokens: wantedTokens, tokenEnds } = desired;
  const { error, podsProblem: problem, tokensProblem } = conditions;
  return {
    role_arn: role.arn,
    ...(isProxy ? { proxy: true } : {}),
    members: Object.fromEntries(observed.members),
    ...(observed.others.size > 0 ? { others: [...observed.others].sort() } : {}),
    ...(observed.document === undefined ? {} : { document: observed.document }),
    ...(conditions.unread ? { unread: true } : {}),
    ...(isUnmanaged ? { kept_elsewhere: true } : {}),
    refused: latest(conditions.refused, mostRefusalChars),
    ...(pods ? { pods: { accounts: [...pods.accounts].sort(), open: pods.open } } : {}),
    ...(pods && problem ? { pods_problem: problem } : {}),
    ...(wantedTokens || tokens
      ? {
          tokens: {
            granted: tokens?.granted ?? false,
            denied: Object.fromEntries(denials(tokenEnds, tokens?.denied ?? new Set())),
            ...(tokensProblem ? { problem: tokensProblem } : {}),
          },
        }
      : {}),
    characters_used: observed.size,
    characters_allowed: observed.maxChars,
    ...(observed.writtenAt === undefined ? {} : { written_at: observed.writtenAt }),
    ...(observed.comparedAt === undefined ? {} : { compared_at: observed.comparedAt }),
    ...driftStatus(conditions),
    ...(conditions.brake ? { brake: conditions.brake } : {}),
    ...(conditions.compareId === undefined ? {} : { compare_id: conditions.compareId }),
    ...(error ? { error: reasonStatus(error) } : {}),
  };
}

/** Service accounts that the document denies come first: they get no token before the Deny is gone. */
function denials(tokenEnds: ReadonlyMap<string, string>, standing: ReadonlySet<string>): [string, string][] {
  const rank = ([name]: readonly [string, string]) => (standing.has(name) ? 0 : 1);
  let left = mostDenialChars;
  const fitting = [...tokenEnds].sort().sort((a, b) => rank(a) - rank(b));
  return fitting.filter(([name, until]) => {
    left -= JSON.stringify({ [name]: until }).length;
    return left >= 0;
  });
}

function latest<T>(entries: readonly T[], maxChars: number): T[] {
  let left = maxChars;
  const first = entries.findLastIndex((entry) => {
    left -= JSON.stringify(entry).length + 1;
    return left < 0;
  });
  return entries.slice(first + 1);
}
