/** Proves that the lease has one holder at a time, whatever answers, clocks and candidates do. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { createLease, type Lease } from '../../src/leader/lease.ts';
import type { Clock } from '../../src/lib/clock.ts';
import { createLog } from '../../src/lib/log.ts';
import { FakeClock, settle } from '../support/clock.ts';
import { atOnce, createLeaseStore, type Fate, skewed } from '../support/lease-store.ts';

const durationMs = 6_000;

describe('the lease', () => {
  let clock: FakeClock;
  let store: ReturnType<typeof createLeaseStore>;
  let stops: (() => Promise<void>)[];

  interface Candidate {
    lease: Lease;
    fate: Fate;
    /** Whether `hold` runs with a signal that was not aborted. */
    writing: boolean;
    terms: number;
    /** Signals it to end. */
    abort(): void;
    /** Ends it, and advances the clock by the time that this takes. */
    stop(): Promise<void>;
  }

  function candidate(identity: string, more: { clock?: Clock; fate?: () => Fate; lingerMs?: number } = {}): Candidate {
    const abort = new AbortController();
    const own: Candidate = {
      fate: atOnce,
      writing: false,
      terms: 0,
      lease: createLease({
        kubernetes: store.client(more.fate ?? (() => own.fate)),
        identity,
        durationMs,
        clock: more.clock ?? clock,
        log: createLog('silent'),
        hold: async (signal) => {
          own.terms += 1;
          own.writing = true;
          await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
          if (more.lingerMs) await clock.sleep(more.lingerMs);
          own.writing = false;
        },
      }),
      abort: () => abort.abort(),
      stop: async () => {
        abort.abort();
        await clock.advance(2 * durationMs);
        await running;
      },
    };
    const running = own.lease.run(abort.signal);
    stops.push(own.stop);
    return own;
  }

  const holderOf = () => store.record?.holder;

  beforeEach(() => {
    clock = new FakeClock();
    store = createLeaseStore(clock);
    stops = [];
  });
  afterEach(async () => {
    for (const stop of stops) await stop();
  });

  it('is acquired at once when it is free, and all candidates know its holder', async () => {
    const one = candidate('one');
    await clock.advance(0);
    const two = candidate('two');
    await clock.advance(1000);
    assert.deepEqual([one.lease.holds(), two.lease.holds()], [true, false]);
    assert.deepEqual([one.lease.holder(), two.lease.holder()], ['one', 'one']);
    assert.deepEqual([one.writing, two.writing], [true, false]);
    assert.equal(store.record?.durationSeconds, 6);
  });

  it('stays with one holder for as long as it is renewed', async () => {
    const one = candidate('one');
    const two = candidate('two');
    await clock.advance(0);
    const [holder, other] = one.lease.holds() ? [one, two] : [two, one];
    for (let second = 0; second < 120; second += 1) {
      await clock.advance(1000);
      assert.deepEqual([holder.lease.holds(), other.lease.holds()], [true, false]);
    }
    assert.deepEqual([holder.terms, store.record?.transitions], [1, 1]);
  });

  it('invariant 1: a holder that cannot renew stops after two thirds of the lease, the next starts later', async () => {
    const one = candidate('one');
    await clock.advance(0);
    const two = candidate('two');
    await clock.advance(10);
    one.fate = { kind: 'fails', ms: 10 };
    await clock.advance(durationMs / 6);
    const until = one.lease.holdsUntil();
    await clock.advance(until - clock.monotonic() - 1);
    assert.deepEqual([one.lease.holds(), one.writing], [true, true]);
    await clock.advance(1);
    assert.deepEqual([one.lease.holds(), two.lease.holds()], [false, false]);
    await clock.advance(20);
    assert.equal(one.writing, false, 'the work is aborted');
    await clock.advance(durationMs / 3 - 40);
    assert.ok(!two.lease.holds(), 'a third of the duration lies between them');
    await clock.advance(durationMs / 6 + 40);
    assert.deepEqual([two.lease.holds(), two.writing, two.terms], [true, true, 1]);
    assert.equal(store.record?.transitions, 2);
    one.fate = atOnce;
    await clock.advance(durationMs * 2);
    assert.deepEqual([one.lease.holds(), one.lease.holder()], [false, 'two']);
  });

  it('is kept through one or two failed renewals', async () => {
    const one = candidate('one');
    await clock.advance(0);
    for (const kind of ['fails', 'lost'] as const) {
      one.fate = { kind, ms: 10 };
      await clock.advance(durationMs / 3);
      one.fate = atOnce;
      await clock.advance(durationMs / 3);
      assert.deepEqual([one.lease.holds(), one.terms], [true, 1]);
    }
  });

  it('is handed over at a release as soon as the work under way has ended', async () => {
    const one = candidate('one', { lingerMs: 300 });
    await clock.advance(0);
    const two = candidate('two');
    await clock.advance(100);
    one.abort();
    await clock.advance(299);
    assert.deepEqual(
      [one.lease.holds(), one.writing],
      [false, true],
      'it begins no more work, and finishes what it began',
    );
    assert.deepEqual([store.record?.holder, two.lease.holds()], ['one', false]);
    await clock.advance(1);
    assert.deepEqual([one.writing, store.record?.holder], [false, '']);
    await clock.advance(durationMs / 6);
    assert.deepEqual([two.lease.holds(), two.lease.holder(), two.terms], [true, 'two', 1]);
  });

  it('is not released by a candidate that never held it', async () => {
    const one = candidate('one');
    await clock.advance(0);
    const two = candidate('two');
    await clock.advance(100);
    await two.stop();
    assert.deepEqual([store.record?.holder, one.lease.holds()], ['one', true]);
  });

  it('invariant 1: is not held by a paused holder when it wakes', async () => {
    // A paused process's promises do not continue: its call answers only when it wakes, while its clock has gone on.
    let pausing: Promise<void> | undefined;
    const paused: Clock = {
      ...skewed(clock, 0, 0),
      sleep: async (ms, signal) => {
        await clock.sleep(ms, signal);
        await pausing;
      },
    };
    const one = candidate('one', { clock: paused });
    await clock.advance(0);
    const two = candidate('two');
    await clock.advance(100);
    let wake: () => void = () => undefined;
    pausing = new Promise((resolve) => {
      wake = () => resolve(undefined);
    });
    await clock.advance(durationMs * 3);
    assert.equal(two.lease.holds(), true);
    assert.equal(one.lease.holds(), false, 'it denies the lease as soon as it is asked');
    pausing = undefined;
    wake();
    await settle();
    assert.deepEqual([one.lease.holds(), one.writing, one.lease.holder()], [false, false, 'two']);
    await clock.advance(durationMs);
    assert.deepEqual([one.lease.holds(), two.lease.holds()], [false, true]);
  });

  it('invariant 1: a holder whose lease was taken over by hand stops at its next renewal', async () => {
    const one = candidate('one');
    await clock.advance(0);
    const { record } = store;
    assert.ok(record);
    store.record = { ...record, holder: 'admin', resourceVersion: 'by hand' };
    await clock.advance(durationMs / 2);
    assert.deepEqual([one.lease.holds(), one.writing, one.lease.holder()], [false, false, 'admin']);
    await clock.advance(durationMs * 2);
    assert.equal(one.lease.holds(), true, 'it acquires the lease again when the other holder does not renew it');
    assert.equal(one.terms, 2);
  });

  it('is created again after it was deleted', async () => {
    const one = candidate('one');
    await clock.advance(0);
    store.record = undefined;
    await clock.advance(durationMs);
    assert.deepEqual([one.lease.holds(), holderOf()], [true, 'one']);
  });

  it('invariant 1: is never held by two candidates at once, despite delays, failures and wrong clocks', async () => {
    const fate: fc.Arbitrary<Fate> = fc.oneof(
      { weight: 5, arbitrary: fc.record({ kind: fc.constant('answers' as const), ms: fc.nat({ max: 900 }) }) },
      { weight: 1, arbitrary: fc.record({ kind: fc.constant('lost' as const), ms: fc.nat({ max: 3000 }) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('fails' as const), ms: fc.nat({ max: 3000 }) }) },
    );
    const clocks = fc.record({ wall: fc.integer({ min: -3e6, max: 3e6 }), monotonic: fc.nat({ max: 1e6 }) });
    const life = fc.record({
      clocks,
      fates: fc.array(fate, { minLength: 5, maxLength: 20 }),
      outage: fc.nat({ max: 20 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(life, { minLength: 2, maxLength: 3 }), fc.nat({ max: 15 }), async (lives, jumpAt) => {
        clock = new FakeClock();
        store = createLeaseStore(clock);
        stops = [];
        const candidates = lives.map(({ clocks: { wall, monotonic }, fates, outage }, index) => {
          let calls = 0;
          return candidate(`candidate-${index}`, {
            clock: skewed(clock, wall, monotonic),
            fate: () => {
              calls += 1;
              // After the fates, every call succeeds; somewhere among them, the API server fails for a while.
              if (calls > outage && calls < outage + 8) return { kind: 'fails', ms: 500 };
              return fates[calls] ?? atOnce;
            },
          });
        });
        let stopped = false;
        for (let turn = 0; turn < 200; turn += 1) {
          await clock.advance(250);
          if (turn === jumpAt * 4) clock.jump(-3_600_000);
          const holding = candidates.filter(({ lease }) => lease.holds()).length;
          const writing = candidates.filter((one) => one.writing).length;
          assert.ok(holding <= 1, `${holding} hold at ${clock.monotonic()}`);
          assert.ok(writing <= 1, `${writing} write at ${clock.monotonic()}`);
          const first = candidates.find(({ lease }) => lease.holds());
          if (turn === 120 && first && !stopped) {
            stopped = true;
            first.abort();
          }
        }
        assert.equal(candidates.filter(({ lease }) => lease.holds()).length, 1, 'in the end there is a holder');
        for (const stop of stops) await stop();
        stops = [];
      }),
      { numRuns: 40 },
    );
  });
});
