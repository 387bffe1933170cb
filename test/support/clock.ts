/** Owns time in tests: a clock that moves only when a test moves it, and then wakes the code that sleeps on it. */
import { type Clock, systemClock } from '../../src/lib/clock.ts';

interface Sleeper {
  readonly at: number;
  readonly wake: () => void;
}

export class FakeClock implements Clock {
  #start: number;
  #elapsed = 0;
  #sleepers: Sleeper[] = [];

  /** @param start the wall clock at the beginning, in milliseconds since the epoch. */
  constructor(start = Date.parse('2026-11-21T12:00:00Z')) {
    this.#start = start;
  }

  now(): number {
    return this.#start + this.#elapsed;
  }

  monotonic(): number {
    return this.#elapsed;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted || ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const sleeper: Sleeper = {
        at: this.#elapsed + ms,
        wake: () => {
          signal?.removeEventListener('abort', sleeper.wake);
          this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
          resolve();
        },
      };
      signal?.addEventListener('abort', sleeper.wake, { once: true });
      this.#sleepers.push(sleeper);
    });
  }

  /** The number of current sleeps, so that a test can wait until the code under test sleeps. */
  get sleeping(): number {
    return this.#sleepers.length;
  }

  /** Moves time on by `ms` and ends sleeps in order, each at its own time; the woken code may sleep and wake again. */
  async advance(ms: number): Promise<void> {
    const end = this.#elapsed + ms;
    await settle();
    for (let next = this.#nextBy(end); next; next = this.#nextBy(end)) {
      this.#elapsed = Math.max(this.#elapsed, next.at);
      next.wake();
      await settle();
    }
    this.#elapsed = end;
    await settle();
  }

  /** Makes the wall clock jump, as NTP can, without time passing. */
  jump(ms: number): void {
    this.#start += ms;
  }

  #nextBy(end: number): Sleeper | undefined {
    return this.#sleepers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
  }
}

/** The real clock, which a test can move on by hours: code that measures time sees it pass, and sleeps end sooner. */
export class ShiftedClock implements Clock {
  #shift = 0;
  #jumped = 0;
  #skipped = new AbortController();

  now(): number {
    return systemClock.now() + this.#shift + this.#jumped;
  }

  monotonic(): number {
    return systemClock.monotonic() + this.#shift;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    const end = this.monotonic() + ms;
    for (let left = ms; left > 0 && !signal?.aborted; left = end - this.monotonic()) {
      await systemClock.sleep(left, AbortSignal.any([this.#skipped.signal, ...(signal ? [signal] : [])]));
    }
  }

  /** Makes the wall clock jump, as NTP can, without time passing. */
  jump(ms: number): void {
    this.#jumped += ms;
  }

  skip(ms: number): void {
    const skipped = this.#skipped;
    this.#skipped = new AbortController();
    this.#shift += ms;
    skipped.abort();
  }
}

/** Runs promises and immediates that are due; it waits for no timer and no socket. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** Waits in real time until `condition` is true, for effects that come over sockets. @throws when it stays false for `ms`. */
export async function until(condition: () => boolean | Promise<boolean>, ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!(await condition())) {
    if (performance.now() > end) throw new Error(`not so after ${ms} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
