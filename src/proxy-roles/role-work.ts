/** Owns the controller's state for each proxy role: when a reconcile is due, which users wait for it, and earlier failures. */

export interface RoleWork {
  /** When a reconcile is due, on the monotonic clock; Infinity: none. */
  dueAt: number;
  /** Whether a client waits for it. */
  urgent: boolean;
  /** The users that wait, including those who join while it runs. */
  callers: Set<string>;
  publish: boolean;
  failures: number;
  /** How many reconciles in a row ended with a write, while a requested comparison needs one that only reads. */
  unconfirmed: number;
}

const longestConfirmMs = 5_000;
/** About a minute, longer than IAM shows old documents. A document that IAM never shows as written is left to the resync. */
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
 * A requested comparison ends with a read: after a write the document is read again, with growing delays while IAM shows
 * an old one.
 * @returns the delay in milliseconds; undefined: no further read.
 */
export function confirmAfter(work: RoleWork): number | undefined {
  work.unconfirmed += 1;
  if (work.unconfirmed > mostConfirms) return undefined;
  return work.unconfirmed === 1 ? 0 : Math.min(longestConfirmMs, 100 * 2 ** work.unconfirmed);
}
