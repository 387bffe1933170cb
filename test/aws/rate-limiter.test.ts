/** Proves that the rate limiter keeps its rate in every window, is fair to callers, and slows down when throttled. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createRateLimiter, type RateLimiter } from '../../src/aws/rate-limiter.ts';
import { FakeClock } from '../support/clock.ts';

describe('the rate limiter', () => {
  let clock: FakeClock;
  let budget: RateLimiter;
  let taken: { name: string; at: number }[];
  const never = new AbortController().signal;

  beforeEach(() => {
    clock = new FakeClock();
    budget = createRateLimiter(5, clock);
    taken = [];
  });

  function ask(name: string, urgent = false, signal = never, callers?: ReadonlySet<string>): Promise<boolean> {
    return budget.take(urgent, signal, callers).then((ok) => {
      if (ok) taken.push({ name, at: clock.monotonic() });
      return ok;
    });
  }
  const names = () => taken.map(({ name }) => name).join('');

  it('allows one second’s worth of calls at once, and then calls at its rate', async () => {
    for (let index = 0; index < 8; index += 1) void ask(String(index));
    await clock.advance(0);
    assert.equal(taken.length, 5);
    await clock.advance(199);
    assert.equal(taken.length, 5);
    await clock.advance(401);
    assert.deepEqual(
      taken.slice(5).map(({ at }) => Math.round(at)),
      [200, 400, 600],
    );
    assert.equal(names(), '01234567');
  });

  it('allows one call at once where the rate is below one a second', async () => {
    budget = createRateLimiter(0.5, clock);
    for (const name of ['a', 'b']) void ask(name);
    await clock.advance(1999);
    assert.equal(names(), 'a');
    await clock.advance(2);
    assert.equal(names(), 'ab');
  });

  it('saves up at most one second’s worth of calls', async () => {
    await clock.advance(3_600_000);
    for (let index = 0; index < 20; index += 1) void ask('x');
    await clock.advance(0);
    assert.equal(taken.length, 5);
  });

  it('serves urgent calls before others, each kind in order', async () => {
    for (const name of 'abcdefg') void ask(name);
    await clock.advance(0);
    for (const name of 'XYZ') void ask(name, true);
    await clock.advance(10_000);
    assert.equal(names(), 'abcdeXYZfg');
  });

  it('gives every fifth call to background work while urgent calls wait', async () => {
    for (let index = 0; index < 20; index += 1) void ask('X', true);
    for (const name of 'abc') void ask(name);
    await clock.advance(5_000);
    assert.equal(names(), 'XXXXXXXXXaXXXXbXXXXcXXX');
  });

  it('does not count background calls as a caller’s turn', async () => {
    const alice = new Set(['alice']);
    void ask('a', true, never, alice);
    for (const name of '1234') void ask(name);
    await clock.advance(0);
    void ask('A', true, never, alice);
    // This call has no particular caller, and such calls were not served so far.
    void ask('x', true);
    await clock.advance(5_000);
    assert.equal(names(), 'a1234xA');
  });

  it('gives each caller a turn while another has many calls waiting, and keeps each caller’s order', async () => {
    const [alice, bob, carol] = ['alice', 'bob', 'carol'].map((name) => new Set([name]));
    for (const name of 'ABCDEFGH') void ask(name, true, never, alice);
    await clock.advance(0);
    assert.equal(names(), 'ABCDE');
    for (const name of 'xyz') void ask(name, true, never, bob);
    void ask('1', true, never, carol);
    await clock.advance(5_000);
    assert.equal(names(), 'ABCDEx1FyGzH');
  });

  it('moves a waiting call forward when another caller joins it', async () => {
    const callers = new Set(['alice']);
    for (const name of 'ABCDEFG') void ask(name, true, never, new Set(['alice']));
    void ask('H', true, never, callers);
    await clock.advance(0);
    callers.add('bob');
    await clock.advance(5_000);
    assert.equal(names(), 'ABCDEHFG');
  });

  it('allows no more than its rate and burst in any window, for any sequence of requests', async () => {
    const step = fc.oneof(
      { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), urgent: fc.boolean() }) },
      { weight: 4, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat({ max: 700 }) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('throttled' as const, 'succeeded' as const) }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const) }) },
    );
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(0.5, 1, 3, 5),
        fc.array(step, { maxLength: 60, size: 'max' }),
        async (rate, steps) => {
          clock = new FakeClock();
          budget = createRateLimiter(rate, clock);
          taken = [];
          let abort = new AbortController();
          let asked = 0;
          let aborted = 0;
          for (const one of steps) {
            if (one.do === 'ask') {
              asked += 1;
              void ask('x', one.urgent, abort.signal).then((ok) => {
                if (!ok) aborted += 1;
              });
            } else if (one.do === 'wait') await clock.advance(one.ms);
            else if (one.do === 'abort') {
              abort.abort();
              abort = new AbortController();
            } else budget[one.do]();
          }
          await clock.advance(600_000);
          assert.equal(taken.length + aborted, asked, 'each request was answered');
          for (const [from, { at: start }] of taken.entries()) {
            for (const [to, { at: end }] of taken.entries()) {
              if (to < from) continue;
              const allowed = Math.max(1, rate) + (rate * (end - start)) / 1000 + 1e-6;
              assert.ok(to - from + 1 <= allowed, `${to - from + 1} calls in ${end - start} ms at ${rate}/s`);
            }
          }
        },
      ),
      { numRuns: 60 },
    );
  });

  it('halves its rate and pauses when throttled, down to a floor', async () => {
    budget.throttled();
    assert.equal(budget.rate(), 2.5);
    void ask('a');
    await clock.advance(899);
    assert.equal(names(), '', 'no call before a pause of half a second and one interval of the lowered rate');
    await clock.advance(2);
    assert.equal(names(), 'a');
    for (let index = 0; index < 20; index += 1) budget.throttled();
    assert.equal(budget.rate(), 0.5);
    void ask('b');
    await clock.advance(2_500);
    assert.equal(names(), 'ab', 'calls go on at the lowest rate');
  });

  it('regains a tenth of its rate with each successful call, up to the full rate', () => {
    budget.throttled();
    for (const rate of [3, 3.5, 4, 4.5, 5, 5]) {
      budget.succeeded();
      assert.equal(budget.rate(), rate);
    }
  });

  it('does not use up a call for a request that was aborted before or while it waited', async () => {
    const abort = new AbortController();
    for (const name of 'abcde') void ask(name);
    const waiting = ask('f', true, abort.signal);
    void ask('g');
    await clock.advance(100);
    abort.abort();
    assert.equal(await waiting, false);
    assert.equal(await ask('h', true, abort.signal), false);
    await clock.advance(101);
    assert.equal(names(), 'abcdeg', 'the next request in line gets the unused call');
  });

  it('gives a returned call to the next request', async () => {
    for (const name of 'abcde') void ask(name);
    await clock.advance(0);
    budget.giveBack();
    void ask('f');
    await clock.advance(0);
    assert.equal(names(), 'abcdef');
    await clock.advance(10_000);
    for (let index = 0; index < 9; index += 1) budget.giveBack();
    for (let index = 0; index < 9; index += 1) void ask('x');
    await clock.advance(0);
    assert.equal(taken.length, 6 + 5, 'at most one second’s worth of calls is saved up');
  });
});
