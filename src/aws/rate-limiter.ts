/** Owns a rate limit in calls a second: it is lowered when AWS throttles, and raised again as calls succeed. */
import type { Clock } from '../lib/clock.ts';

export interface RateLimiter {
  /**
   * Resolves when one call may be made; urgent calls go before background work.
   * @param callers the users who wait for an urgent call. Users take turns, so that one user's many calls do not delay
   * another's few. Users may be added to the set while the call waits.
   * @returns false when `signal` was aborted first; then no capacity is used.
   */
  take(urgent: boolean, signal: AbortSignal, callers?: ReadonlySet<string>): Promise<boolean>;
  /** Returns the capacity of a call that was not made. */
  giveBack(): void;
  /** AWS throttled a call: halves the rate and pauses for 500 ms. */
  throttled(): void;
  /** A call worked: raises a lowered rate by a tenth of the full rate. */
  succeeded(): void;
  /** Calls a second, now. */
  rate(): number;
}

interface Waiter {
  resolve: (taken: boolean) => void;
  callers: ReadonlySet<string>;
}

const nobody: ReadonlySet<string> = new Set();

/** Above this many remembered callers all are forgotten; far fewer wait at a time. */
const mostCallers = 10_000;
/** One call in so many is reserved for background work, so that removals go on under any load. */
const backgroundEvery = 5;

/**
 * A token bucket with the capacity of one second.
 * @param perSecond the full rate.
 */
export function createRateLimiter(perSecond: number, clock: Clock): RateLimiter {
  const capacity = Math.max(1, perSecond);
  const minimum = Math.min(perSecond, 0.5);
  let rate = perSecond;
  let tokens = capacity;
  let filledAt = clock.monotonic();
  let pausedUntil = 0;
  const urgentWaiters: Waiter[] = [];
  const otherWaiters: Waiter[] = [];
  let pumping = false;
  let turn = 0;
  /** Caller -> the number of the call that last served it. */
  const servedAt = new Map<string, number>();

  /** The urgent call of the caller who was served longest ago; among one caller's calls, the oldest. */
  function nextUrgent(): Waiter | undefined {
    let [index, caller, oldest] = [-1, '', Infinity];
    for (const [at, { callers }] of urgentWaiters.entries()) {
      for (const one of callers.size > 0 ? callers : ['']) {
        const served = servedAt.get(one) ?? 0;
        if (served < oldest) [index, caller, oldest] = [at, one, served];
      }
    }
    if (index < 0) return undefined;
    servedAt.set(caller, turn);
    const [next] = urgentWaiters.splice(index, 1);
    if (servedAt.size > mostCallers) servedAt.clear();
    return next;
  }

  function fill(): void {
    const now = clock.monotonic();
    const from = Math.max(filledAt, pausedUntil);
    if (now <= from) return;
    tokens = Math.min(capacity, tokens + ((now - from) / 1000) * rate);
    filledAt = now;
  }

  async function pump(): Promise<void> {
    if (pumping) return;
    pumping = true;
    while (urgentWaiters.length + otherWaiters.length > 0) {
      fill();
      const now = clock.monotonic();
      if (tokens >= 1 && now >= pausedUntil) {
        tokens -= 1;
        turn += 1;
        const first = turn % backgroundEvery === 0 ? otherWaiters.shift() : undefined;
        (first ?? nextUrgent() ?? otherWaiters.shift())?.resolve(true);
        continue;
      }
      const untilToken = tokens >= 1 ? 0 : ((1 - tokens) / rate) * 1000;
      await clock.sleep(Math.max(1, pausedUntil - now, untilToken));
    }
    pumping = false;
  }

  return {
    take: (urgent, signal, callers = nobody) =>
      new Promise((resolve) => {
        if (signal.aborted) {
          resolve(false);
          return;
        }
        const queue = urgent ? urgentWaiters : otherWaiters;
        const waiter: Waiter = {
          callers,
          resolve: (taken) => {
            signal.removeEventListener('abort', abort);
            resolve(taken);
          },
        };
        const abort = () => {
          const index = queue.indexOf(waiter);
          if (index >= 0) queue.splice(index, 1);
          resolve(false);
        };
        signal.addEventListener('abort', abort, { once: true });
        queue.push(waiter);
        void pump();
      }),
    giveBack: () => {
      tokens = Math.min(capacity, tokens + 1);
    },
    throttled: () => {
      fill();
      rate = Math.max(minimum, rate / 2);
      tokens = Math.min(tokens, 0);
      pausedUntil = clock.monotonic() + 500;
      filledAt = pausedUntil;
    },
    succeeded: () => {
      fill();
      rate = Math.min(perSecond, rate + perSecond / 10);
    },
    rate: () => rate,
  };
}
