/** Owns the schedule of rounds: one at a time, shared by all callers; on demand, after an interval, and again after a failure. */
import type { Clock } from '../lib/clock.ts';
import { Failure } from './failure.ts';

export interface Outcome<T> {
  /** Why the round began: `start`, `retry`, `refresh`, `timer`, `token`, `recheck`. */
  readonly cause: string;
  /** When it ended, milliseconds since the epoch. */
  readonly at: number;
  readonly seconds: number;
  readonly result: T | undefined;
  /** Set where there is no result. */
  readonly failure: Failure | undefined;
}

export interface Rounds<T> {
  /**
   * Runs a round now, or shares the outcome of the one under way. While the service has asked to wait, no round begins: the
   * result is then the failure with that request.
   */
  ask(cause: string): Promise<Outcome<T>>;
  /** Waits for the round under way, if any, and then calls `ask`: for a change that the current round may have missed. */
  askAfter(cause: string): Promise<Outcome<T>>;
  readonly running: boolean;
  readonly last: Outcome<T> | undefined;
  /** When the next round begins by itself, milliseconds since the epoch. */
  readonly nextAt: number | undefined;
  /** Failures since the last success. */
  readonly failures: number;
  /** Aborts the round under way, and begins no other. */
  stop(): void;
}

export interface RoundsOptions<T> {
  /** @param cause as in Outcome. */
  round: (signal: AbortSignal, cause: string) => Promise<T>;
  /** Called with every outcome, and with the milliseconds until the next round begins by itself. */
  onOutcome: (outcome: Outcome<T>, nextInMs: number | undefined) => void;
  /** The interval after a success; 0 is never. */
  refreshMs: number;
  clock: Clock;
  random: () => number;
}

const [shortestMs, longestMs] = [500, 30_000];

/** Full jitter between half a second and a bound that doubles up to 30 s: many pods start at once, and must not retry in step. */
export function backOffMs(failures: number, random: () => number): number {
  const bound = Math.min(longestMs, shortestMs * 2 ** failures);
  return shortestMs + random() * (bound - shortestMs);
}

export function createRounds<T>({ round, onOutcome, refreshMs, clock, random }: RoundsOptions<T>): Rounds<T> {
  const stopping = new AbortController();
  let running: Promise<Outcome<T>> | undefined;
  let last: Outcome<T> | undefined;
  let failures = 0;
  let nextAt: number | undefined;
  let heldUntil = 0;
  let timer = new AbortController();

  function nextInMs(failure: Failure | undefined): number | undefined {
    if (!failure) return refreshMs > 0 ? refreshMs * (0.9 + 0.2 * random()) : undefined;
    const wait = backOffMs(failures, random);
    // Not earlier than the service asked for, and with jitter.
    return failure.retryAfterSeconds === undefined
      ? wait
      : Math.max(wait, failure.retryAfterSeconds * 1000 + shortestMs * random());
  }

  function plan(ms: number | undefined, cause: string): void {
    timer = new AbortController();
    nextAt = ms === undefined ? undefined : clock.now() + ms;
    if (ms === undefined) return;
    const { signal } = timer;
    void clock.sleep(ms, signal).then(() => {
      if (!signal.aborted && !running) void start(cause);
    });
  }

  async function run(cause: string): Promise<Outcome<T>> {
    const began = clock.monotonic();
    const settled = await round(stopping.signal, cause).then(
      (result) => ({ result, failure: undefined }),
      (error: unknown) => {
        const failure = error instanceof Failure ? error : new Failure('internal', { cause: error });
        return { result: undefined, failure };
      },
    );
    const outcome = { cause, at: clock.now(), seconds: (clock.monotonic() - began) / 1000, ...settled };
    running = undefined;
    if (stopping.signal.aborted) return outcome;
    last = outcome;
    failures = outcome.failure ? failures + 1 : 0;
    heldUntil = clock.monotonic() + (outcome.failure?.retryAfterSeconds ?? 0) * 1000;
    const next = nextInMs(outcome.failure);
    plan(next, outcome.failure ? 'retry' : 'timer');
    onOutcome(outcome, next);
    return outcome;
  }

  function start(cause: string): Promise<Outcome<T>> {
    timer.abort();
    nextAt = undefined;
    running = run(cause);
    return running;
  }

  async function ask(cause: string): Promise<Outcome<T>> {
    if (running) return running;
    if (last?.failure && clock.monotonic() < heldUntil) return last;
    return start(cause);
  }

  return {
    ask,
    askAfter: async (cause) => {
      await running;
      return ask(cause);
    },
    get running() {
      return running !== undefined;
    },
    get last() {
      return last;
    },
    get nextAt() {
      return nextAt;
    },
    get failures() {
      return failures;
    },
    stop: () => {
      stopping.abort();
      timer.abort();
      nextAt = undefined;
    },
  };
}
