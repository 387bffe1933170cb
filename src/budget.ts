/** Owns a rate budget: calls a second, lowered when the other side throttles and raised again as it does not. */
import type { Clock } from './clock.ts';

export interface Budget {
  /**
   * Resolves when one call may be made; urgent ones go before the others.
   * @returns false when `signal` was aborted first; nothing is used then.
   */
  take(urgent: boolean, signal: AbortSignal): Promise<boolean>;
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
}

/** One call in so many is the others', so that whoever is to go goes, however many are waited for. */
const othersTurn = 5;

/**
 * A token bucket that holds one second's worth.
 * @param perSecond the full rate.
 */
export function createBudget(perSecond: number, clock: Clock): Budget {
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
        (first ?? urgentWaiters.shift() ?? otherWaiters.shift())?.resolve(true);
        continue;
      }
      const untilToken = tokens >= 1 ? 0 : ((1 - tokens) / rate) * 1000;
      await clock.sleep(Math.max(1, pausedUntil - now, untilToken));
    }
    pumping = false;
  }

  return {
    take: (urgent, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) {
          resolve(false);
          return;
        }
        const queue = urgent ? urgentWaiters : otherWaiters;
        const waiter: Waiter = {
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
