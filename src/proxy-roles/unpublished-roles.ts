/** Owns whether proxy roles without a published status let service accounts in: their trust policies are read from IAM. */
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { Clock } from '../lib/clock.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import type { TrustScope } from '../trust-policy/document.ts';
import { letsIn } from '../trust-policy/reach.ts';
import { type HeldTokens, holdersOf, type WayIn } from './ways-in.ts';

export interface UnpublishedRolesDeps {
  iam: Pick<Iam, 'getTrustPolicy'>;
  isPublished: (arn: string) => boolean;
  mappings: () => Pick<Mappings, 'managedProxies'>;
  trustScope: () => TrustScope | undefined;
  clock: Clock;
}

/** One call makes at most so many reads, since the leader needs the account's rate. A role that is not read counts as open. */
const mostReads = 10;
const longestMs = 2_000;

/**
 * The proxy roles without a published status that may let the holders of these tokens in: no mapping names them any more, or they
 * are unmanaged and the leader has not read them yet. The leader removes its own statement before it withdraws a status; the
 * statement of an unmanaged role's owner stays.
 * @param maxMs the time for IAM's answers.
 */
export async function unpublishedWaysIn(
  held: HeldTokens,
  deps: UnpublishedRolesDeps,
  maxMs = longestMs,
): Promise<WayIn[]> {
  const { clock, isPublished } = deps;
  const arns = [...new Set([...held.values()].flat().map(({ arn }) => arn))].filter((arn) => !isPublished(arn)).sort();
  const roles = arns.map((arn) => ({ arn, names: holdersOf(arn, held, clock.now()) }));
  const late = new AbortController();
  const done = new AbortController();
  void clock.sleep(Math.min(longestMs, maxMs), done.signal).then(() => late.abort());
  const ways = await Promise.all(
    roles
      .filter(({ names }) => names.length > 0)
      .map(async ({ arn, names }, index) => {
        const policy = index < mostReads && maxMs > 0 ? await policyOf(arn, deps, late.signal) : undefined;
        return wayIn(arn, names, policy, deps);
      }),
  );
  done.abort();
  return ways.flat();
}

/** @returns the trust policy; `gone` where IAM has no such role; undefined where IAM did not answer. */
function policyOf(
  arn: string,
  { iam }: UnpublishedRolesDeps,
  signal: AbortSignal,
): Promise<string | 'gone' | undefined> {
  return iam
    .getTrustPolicy(arn, signal)
    .catch((error: unknown) => (error instanceof AwsError && error.code === 'role_not_found' ? 'gone' : undefined));
}

function wayIn(arn: string, names: string[], policy: string | undefined, deps: UnpublishedRolesDeps): WayIn[] {
  if (policy === 'gone') return [];
  const scope = deps.trustScope();
  const letIn = policy === undefined || !scope ? names : names.filter((name) => letsIn(scope, policy, name));
  if (letIn.length === 0) return [];
  const about = { proxy_iam_role_arn: arn, service_accounts: letIn };
  if (policy === undefined || !scope || deps.mappings().managedProxies.has(arn)) {
    const detail = 'the run may hold tokens of it, and whether its trust policy lets them in is not known yet';
    return [{ ...about, code: 'pending', detail }];
  }
  const detail =
    'irsa-svc does not manage its trust policy and cannot deny the tokens that the run holds: they work until they expire';
  return [{ ...about, code: 'kept_elsewhere', detail }];
}
