/** Owns retrying roles that IAM refused: one comparison for all requests, and none soon after the refusal. */
import type { Clock } from '../lib/clock.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import { type ComparisonDeps, compareNow } from './compare-now.ts';

/** How long requests are answered with the recorded refusal: the leader adds no members to the role for as long. */
const knownMs = 15_000;

export interface SecondLooks {
  /**
   * Has the leader compare those of these roles that were refused some time ago, as background work.
   * Resolves when it did, or when that takes too long; the statuses have the result.
   */
  at(roleArns: Iterable<string>): Promise<void>;
}

export function createSecondLooks(deps: ComparisonDeps): SecondLooks {
  const underWay = new Map<string, Promise<unknown>>();

  function look(role: string): Promise<unknown> {
    const known = underWay.get(role);
    if (known) return known;
    // Where Kubernetes does not answer, the recorded refusal stands.
    const asked = compareNow(deps, role, { background: true }).catch(() => false);
    underWay.set(role, asked);
    return asked.finally(() => underWay.delete(role));
  }

  return {
    at: async (roleArns) => {
      await Promise.all([...new Set(roleArns)].filter((role) => wasRefusedLongAgo(deps, role)).map(look));
    },
  };
}

function wasRefusedLongAgo({ statuses, clock }: { statuses: TrustStatuses; clock: Clock }, role: string): boolean {
  const error = statuses.get(role)?.status.error;
  if (!error) return false;
  // The leader's clock may be ahead of ours: a refusal dated in the future does not count as recent.
  const age = clock.now() - Date.parse(error.at);
  return !(age >= 0 && age < knownMs);
}
