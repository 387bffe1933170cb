/** Owns placement in a pool: chooses one of several proxy roles for a run's service accounts. Pure. */

/** A proxy role that may be chosen. */
export interface Candidate {
  arn: string;
  /** The characters that its trust policy has left; Infinity until it is read. */
  room: number;
  /** How many of the accounts to place are members already. */
  present: number;
  /** The characters that the other accounts would take. */
  cost: number;
  /** Why it accepts no new members, if it does not. */
  error?: { code: string; detail: string } | undefined;
}

export type Placement =
  | { kind: 'placed'; arn: string }
  | { kind: 'refused'; code: string; detail: string /** A full pool may get capacity. */; full: boolean };

/**
 * Chooses the proxy role of a run's accounts for one target role. All get the same one, since one config file names one
 * proxy role. The one that has most of them is kept while all fit there; otherwise the first one, in the order of the
 * mapping, that fits all is chosen.
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
