/** Owns what the controller keeps for each proxy role: when a reconcile is due, which users wait for it, and what came before. */

export interface RoleWork {
  /** When a reconcile is due, on the monotonic clock; Infinity: none. */
  dueAt: number;
  /** Whether a client waits for it. */
  urgent: boolean;
  /** The users who do, those included who come while it is under way. */
  callers: Set<string>;
  publish: boolean;
  failures: number;
  /** How many writes in a row a comparison that was asked for has not seen yet. */
  unconfirmed: number;
}

const longestConfirmMs = 5_000;
/** A minute's worth, longer than IAM shows old documents: a document that IAM never shows as it was written is left to the resync. */
const mostConfirms = 15;

export function newRoleWork(): RoleWork {
  return {
    dueAt: Infinity,
    urgent: false,
    callers: new Set(),
    publish: false,
    failures: 0,
    unconfirmed: 0,
  };
}

/**
 * A comparison tells what IAM shows: what was written is read again, later and later while IAM shows what was before.
 * @returns after how many milliseconds; undefined: not any more.
 */
export function confirmAfter(work: RoleWork): number | undefined {
  work.unconfirmed += 1;
  if (work.unconfirmed > mostConfirms) return undefined;
  return work.unconfirmed === 1 ? 0 : Math.min(longestConfirmMs, 100 * 2 ** work.unconfirmed);
}
