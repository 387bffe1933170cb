/** Owns the second look at roles that IAM refused: one for all who ask, and none soon after the refusal. */
import type { Clock } from '../lib/clock.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import { type ComparisonDeps, compareNow } from './compare-now.ts';

/** How long a refusal is answered from the record: the leader places nobody new in the role for as long. */
const knownMs = 15_000;

export interface SecondLooks {
  /**
   * Has the leader look again at those of these roles that were refused some time ago, as background work.
   * Resolves when it did, or when that takes long; the statuses say what it found.
   */
  at(roleArns: Iterable<string>): Promise<void>;
}

export function createSecondLooks(deps: ComparisonDeps): SecondLooks {
  const underWay = new Map<string, Promise<unknown>>();

  function look(role: string): Promise<unknown> {
    const known = underWay.get(role);
    if (known) return known;
    // Where Kubernetes does not answer, what is known of the role stands.
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
  // The leader's clock may be ahead of ours by any time: such a refusal is not taken for one of now.
  const age = clock.now() - Date.parse(error.at);
  return !(age >= 0 && age < knownMs);
}
