/** Owns a queue of things to look at, one at a time: what is asked for again meanwhile is looked at again. */
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';

/** For `due`: at once, and before others that are due, such as all those of a full comparison. */
export const beforeOthers = Number.NEGATIVE_INFINITY;

export interface KeyedQueue {
  /** Asks for a look in so many milliseconds, or sooner where one is due sooner. */
  due(key: string, afterMs: number): void;
  /** Resolves when nothing is under way; to be asked after the signal was aborted. */
  idle(): Promise<void>;
}

export interface KeyedQueueOptions {
  /**
   * Looks at one.
   * @param failures how often in a row it asked to be looked at again.
   * @returns after how many milliseconds to look again by itself; undefined: it is in order, or waits for an event.
   */
  serve: (key: string, failures: number) => Promise<number | undefined>;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

const brokenMs = 5_000;

export function createKeyedQueue({ serve, clock, log, signal }: KeyedQueueOptions): KeyedQueue {
  /** When each is due, on the monotonic clock. */
  const dueAt = new Map<string, number>();
  const failures = new Map<string, number>();
  let wake = new AbortController();
  let running: Promise<void> | undefined;

  function due(key: string, afterMs: number): void {
    const at = clock.monotonic() + afterMs;
    dueAt.set(key, Math.min(at, dueAt.get(key) ?? Infinity));
    wake.abort();
    start();
  }

  function start(): void {
    running ??= run().finally(() => {
      running = undefined;
      // Something came between the last look and now.
      if (dueAt.size > 0 && !signal.aborted) start();
    });
  }

  function first(): [string, number] {
    let found: [string, number] = ['', Infinity];
    for (const entry of dueAt) if (entry[1] < found[1]) found = entry;
    return found;
  }

  async function run(): Promise<void> {
    while (!signal.aborted && dueAt.size > 0) {
      const [key, at] = first();
      const wait = at - clock.monotonic();
      if (wait > 0) {
        wake = new AbortController();
        await clock.sleep(wait, AbortSignal.any([wake.signal, signal]));
        continue;
      }
      dueAt.delete(key);
      await look(key);
    }
  }

  async function look(key: string): Promise<void> {
    const before = failures.get(key) ?? 0;
    let again: number | undefined;
    try {
      again = await serve(key, before);
    } catch (error) {
      log.error({ err: error, key }, 'a look failed; it is tried again');
      again = brokenMs;
    }
    if (again === undefined) failures.delete(key);
    else failures.set(key, before + 1);
    if (again !== undefined) due(key, again);
  }

  return {
    due,
    idle: async () => {
      while (running) await running;
    },
  };
}
