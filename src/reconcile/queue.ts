/** Owns the engine of every controller: keys that are due, each reconciled by one worker at a time, and again when it failed. */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

/** For `due`: at once, and before others that are due, such as all those of a full comparison. */
export const beforeOthers = Number.NEGATIVE_INFINITY;

/**
 * What came of a reconcile, as in controller-runtime. Done: until something changes. Requeue: after so many milliseconds.
 * Failed: after a pause that doubles with each failure since it was done last. `firstMs` is the first pause.
 */
export type Result = { kind: 'done' } | { kind: 'requeue'; afterMs: number } | { kind: 'failed'; firstMs: number };

/** @param failures how often it failed since it was done last. */
export type Reconciler = (key: string, failures: number) => Promise<Result>;

export const done: Result = { kind: 'done' };
export const requeue = (afterMs: number): Result => ({ kind: 'requeue', afterMs });
export const failed = (firstMs: number): Result => ({ kind: 'failed', firstMs });

export interface ReconcileQueueOptions {
  /** An error that it throws is a mistake of ours: it is logged, and counts as a failure. */
  reconcile: Reconciler;
  /** What a key stands for, for the log: `a proxy role`. */
  of: string;
  /** How many keys are reconciled at a time. */
  workers: number;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

const brokenMs = 5_000;
const longestRetryMs = 30_000;

/** @param failures before this one. @returns milliseconds until another try. */
export function backOff(firstMs: number, failures: number): number {
  return Math.min(longestRetryMs, firstMs * 2 ** failures);
}

/** A first pause that sets apart those that failed together. */
export const apart = (ms: number): number => ms * (0.5 + Math.random() / 2);

export class ReconcileQueue {
  readonly #options: ReconcileQueueOptions;
  /** When each key is due, on the monotonic clock. */
  readonly #dueAt = new Map<string, number>();
  readonly #failures = new Map<string, number>();
  readonly #running = new Map<string, Promise<void>>();
  #isDispatching = false;
  /** Ends the wait for the key that is due next. */
  #alarm = new AbortController();

  constructor(options: ReconcileQueueOptions) {
    this.#options = options;
  }

  /** Asks for a reconcile in so many milliseconds, or sooner where one is due sooner. */
  due(key: string, afterMs: number): void {
    const at = this.#options.clock.monotonic() + afterMs;
    this.#dueAt.set(key, Math.min(at, this.#dueAt.get(key) ?? Infinity));
    this.#wake();
  }

  /** Resolves when no reconcile is under way; to be called after the signal was aborted. */
  async idle(): Promise<void> {
    await Promise.all(this.#running.values());
  }

  #wake(): void {
    this.#alarm.abort();
    if (!this.#isDispatching) void this.#dispatch();
  }

  /** Starts what is due while a worker is free, and waits for what is due next. */
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
    // On record before it begins, as it may ask for itself.
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
