/** Owns the choice of the proxy role that a run's accounts go to, out of a pool. Pure. */

/** A proxy role that may be chosen. */
export interface Candidate {
  arn: string;
  /** The characters that its trust policy has left; Infinity while it was not read yet. */
  room: number;
  /** How many of the accounts to place are in it already. */
  present: number;
  /** The characters that the accounts not in it yet would take. */
  cost: number;
  /** Why it can take nobody, where that is so. */
  error?: { code: string; detail: string } | undefined;
}

export type Placement =
  | { kind: 'placed'; arn: string }
  | { kind: 'refused'; code: string; detail: string /** A full pool may get room. */; full: boolean };

/**
 * Where a run's accounts go for one target role. They go together, since one config file names one proxy role. Nobody
 * is moved without need: a proxy that has them is kept while all fit there; else they go to the first, in the order of
 * the mapping, that has room for all.
 * @param candidates in the order of the mapping; empty where no mapping allows any.
 */
export function place(candidates: readonly Candidate[]): Placement {
  const usable = candidates.filter((candidate) => !candidate.error);
  // sort() is stable: where as many are present, the order of the mapping decides.
  const byPresence = [...usable].sort((a, b) => b.present - a.present);
  const chosen = byPresence.find((candidate) => candidate.cost <= candidate.room);
  if (chosen) return { kind: 'placed', arn: chosen.arn };
  if (usable.length > 0) {
    const names = usable.map((candidate) => nameOf(candidate.arn)).join(', ');
    const detail =
      usable.length === 1
        ? `the trust policy of proxy role ${names} has no room for another run`
        : `the trust policies of proxy roles ${names} have no room for another run`;
    return { kind: 'refused', code: 'trust_policy_full', detail, full: true };
  }
  const error = candidates[0]?.error ?? { code: 'mapping_not_found', detail: 'no mapping names a proxy role for it' };
  return { kind: 'refused', ...error, full: false };
}

function nameOf(arn: string): string {
  return arn.slice(arn.lastIndexOf('/') + 1);
}
