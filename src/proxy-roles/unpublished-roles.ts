/** Owns whether proxy roles of which the leader publishes nothing let service accounts in: IAM itself is asked. */
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

/** The leader's budget has the account's reads: one call adds so many at most. What is not read may let anybody in. */
const mostReads = 10;
/** Clients wait for the answer. */
const deadlineMs = 2_000;

/**
 * The roles that may let the holders of these tokens in, although nothing is published of them: no mapping names them any more, or
 * they are kept elsewhere and were never looked at. What the service keeps itself has no statement for tokens left by then; the
 * owner's statement stays.
 */
export async function unpublishedWaysIn(held: HeldTokens, deps: UnpublishedRolesDeps): Promise<WayIn[]> {
  const { clock, isPublished } = deps;
  const arns = [...new Set([...held.values()].flat().map(({ arn }) => arn))].filter((arn) => !isPublished(arn)).sort();
  const late = new AbortController();
  const done = new AbortController();
  void clock.sleep(deadlineMs, done.signal).then(() => late.abort());
  const ways = await Promise.all(
    arns.map(async (arn, index): Promise<WayIn[]> => {
      const names = holdersOf(arn, held, clock.now());
      if (names.length === 0) return [];
      const policy = index < mostReads ? await policyOf(arn, deps, late.signal) : undefined;
      return wayIn(arn, names, policy, deps);
    }),
  );
  done.abort();
  return ways.flat();
}

/** @returns the trust policy; `gone` where IAM has no such role; undefined where that is not known. */
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
    'its trust policy is not kept by this service, which cannot deny the tokens that the run holds: they work until they expire';
  return [{ ...about, code: 'kept_elsewhere', detail }];
}
