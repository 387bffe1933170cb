/** Owns the reconcile queue of every controller: one worker at a time for each due key, and retries with back-off. */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

/** For `due`: at once, and before all other due keys, such as those of a full comparison. */
export const beforeOthers = Number.NEGATIVE_INFINITY;

/**
 * The result of a reconcile, as in controller-runtime. Done: wait for a change. Requeue: again after `afterMs`. Failed:
 * retry after a pause, which starts at `firstMs` and doubles with each failure since the key was last done.
 */
export type Result = { kind: 'done' } | { kind: 'requeue'; afterMs: number } | { kind: 'failed'; firstMs: number };

/** @param failures how often the key failed since it was last done. */
export type Reconciler = (key: string, failures: number) => Promise<Result>;

export const done: Result = { kind: 'done' };
export const requeue = (afterMs: number): Result => ({ kind: 'requeue', afterMs });
export const failed = (firstMs: number): Result => ({ kind: 'failed', firstMs });

export interface ReconcileQueueOptions {
  /** An error that it throws is a bug: the queue logs it, and counts it as a failure. */
  reconcile: Reconciler;
  /** What a key is, for the log: `a proxy role`. */
  of: string;
  /** How many keys are reconciled at a time. */
  workers: number;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

const brokenMs = 5_000;
const longestRetryMs = 30_000;

/** @param failures the failures before this one. @returns milliseconds until the retry. */
export function backOff(firstMs: number, failures: number): number {
  return Math.min(longestRetryMs, firstMs * 2 ** failures);
}

/** Adds jitter to a first pause, so that keys that failed together do not retry together. */
export const apart = (ms: number): number => ms * (0.5 + Math.random() / 2);

export class ReconcileQueue {
  readonly #options: ReconcileQueueOptions;
  /** When each key is due, on the monotonic clock. */
  readonly #dueAt = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  #isDispatching = false;
  /** Aborted to end the wait for the key that is due next. */
  #alarm = new AbortController();

  constructor(options: ReconcileQueueOptions) {
    this.#options = options;
  }

  /** Makes a key due in `afterMs` milliseconds, or earlier where it is due earlier already. */
  due(key: string, afterMs: number): void {
    const at = this.#options.clock.monotonic() + afterMs;
    this.#dueAt.set(key, Math.min(at, this.#dueAt.get(key) ?? Infinity));
    this.#wake();
  }

  /** Resolves when no reconcile is running. Call it after the signal was aborted. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #wake(): void {
    this.#alarm.abort();
    if (!this.#isDispatching) void this.#dispatch();
  }

  /** Starts due keys while a worker is free, and waits for the next one. */
  async #dispatch(): Promise<void> {
    const { clock, signal, workers } = this.#options;
    this.#isDispatching = true;
    while (!signal.aborted && this.#running.size < workers) {
      const [key, at] = this.#first();
      const wait = at - clock.monotonic();
      if (wait === Infinity) break;
      if (wait <= 0) this.#start(key);
      else {
        this.#alarm = new AbortController();
        await clock.sleep(wait, AbortSignal.any([this.#alarm.signal, signal]));
      }
    }
    this.#isDispatching = false;
  }

  #first(): [string, number] {
    let found: [string, number] = ['', Infinity];
    for (const entry of this.#dueAt) if (entry[1] < found[1] && !this.#running.has(entry[0])) found = entry;
    return found;
  }

  #start(key: string): void {
    this.#dueAt.delete(key);
    // The key counts as running before it begins, since the reconcile may make it due again.
    this.#running.set(key, Promise.resolve());
    const work = this.#reconcile(key).then(() => {
      this.#running.delete(key);
      this.#wake();
    });
    this.#running.set(key, work);
  }

  async #reconcile(key: string): Promise<void> {
    const { reconcile, of, log } = this.#options;
    const failures = this.#failures.get(key) ?? 0;
    const result = await reconcile(key, failures).catch((error: unknown) => {
      log.error({ err: error, key, of }, 'a reconcile failed; it is tried again');
      return failed(brokenMs);
    });
    if (result.kind === 'done') this.#failures.delete(key);
    if (result.kind === 'requeue') this.due(key, result.afterMs);
    if (result.kind !== 'failed') return;
    this.#failures.set(key, failures + 1);
    this.due(key, backOff(result.firstMs, failures));
  }
}
