/** Owns a rate budget: calls a second, lowered when the other side throttles and raised again as it does not. */
import type { Clock } from '../lib/clock.ts';

export interface RateLimiter {
  /**
   * Resolves when one call may be made; urgent ones go before the others.
   * @param callers the users who wait for an urgent one: each has a turn, so that nobody's many calls keep another's few
   * waiting. Who is added meanwhile counts.
   * @returns false when `signal` was aborted first; nothing is used then.
   */
  take(urgent: boolean, signal: AbortSignal, callers?: ReadonlySet<string>): Promise<boolean>;
  /** Gives back a call that was not made. */
  giveBack(): void;
  /** The other side said that it was too much: the rate is halved, and there is a pause. */
  throttled(): void;
  /** A call went through: a lowered rate comes back by a tenth of the full one. */
  succeeded(): void;
  /** Calls a second, now. */
  rate(): number;
}

interface Waiter {
  resolve: (taken: boolean) => void;
  callers: ReadonlySet<string>;
}

const nobody: ReadonlySet<string> = new Set();

/** More callers than wait at a time. */
const mostCallers = 10_000;
/** Every so many calls, one is reserved for background work, so that removals go on under any load. */
const othersTurn = 5;

/**
 * A token bucket that holds one second's worth.
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
  /** Caller -> the turn that was last taken for it. */
  const servedAt = new Map<string, number>();

  /** The urgent call of the caller who was served longest ago; of one caller's, the first. */
  function nextUrgent(): Waiter | undefined {
    let [index, caller, oldest] = [-1, '', Infinity];
    for (const [at, { callers }] of urgentWaiters.entries()) {
      for (const one of callers.size > 0 ? callers : ['']) {
        const served = servedAt.get(one) ?? 0;
        if (served < oldest) [index, caller, oldest] = [at, one, served];
      }
    }
    servedAt.set(caller, turn);
    const [next] = index < 0 ? [] : urgentWaiters.splice(index, 1);
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
        const first = turn % othersTurn === 0 ? otherWaiters.shift() : undefined;
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
