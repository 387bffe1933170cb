/** Proves when rounds happen, with a clock that the test moves. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { Failure } from '../../src/sidecar/failure.ts';
import { backOffMs, createRounds, type Outcome } from '../../src/sidecar/rounds.ts';
import { FakeClock, settle } from '../support/clock.ts';

describe('rounds', () => {
  it('wait between half a second and 30 s after failures, with a limit that doubles each time', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 2000 }),
        fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
        (n, r) => {
          const wait = backOffMs(n, () => r);
          assert.ok(wait >= 500 && wait <= Math.min(30_000, 500 * 2 ** n), `${n} ${r} ${wait}`);
        },
      ),
    );
  });

  function setUp(refreshMs = 900_000) {
    const clock = new FakeClock();
    const ends: { resolve: (value: string) => void; reject: (error: unknown) => void; signal: AbortSignal }[] = [];
    const outcomes: Outcome<string>[] = [];
    const rounds = createRounds<string>({
      round: (signal) => new Promise((resolve, reject) => ends.push({ resolve, reject, signal })),
      onOutcome: (outcome) => outcomes.push(outcome),
      refreshMs,
      clock,
      random: () => 0,
    });
    return { clock, ends, outcomes, rounds };
  }

  it('are shared by all requests that arrive while one is under way', async () => {
    const { ends, rounds } = setUp();
    const asked = [rounds.ask('start'), rounds.ask('refresh'), rounds.ask('refresh')];
    assert.equal(ends.length, 1);
    ends[0]?.resolve('done');
    const [one, two, three] = await Promise.all(asked);
    assert.equal(one?.result, 'done');
    assert.ok(one === two && two === three);
  });

  it('begin after the one under way for a change that it cannot have seen', async () => {
    const { ends, rounds, outcomes } = setUp();
    void rounds.ask('start');
    void rounds.askAfter('token');
    ends[0]?.resolve('old');
    await settle();
    ends[1]?.resolve('new');
    await settle();
    assert.deepEqual(
      outcomes.map(({ cause, result }) => [cause, result]),
      [
        ['start', 'old'],
        ['token', 'new'],
      ],
    );
  });

  it('repeat after the refresh interval, counted from the last round of any cause', async () => {
    const { clock, ends, rounds, outcomes } = setUp();
    void rounds.ask('start');
    ends[0]?.resolve('1');
    await clock.advance(800_000);
    void rounds.ask('refresh');
    ends[1]?.resolve('2');
    await clock.advance(809_999);
    assert.equal(ends.length, 2);
    // Nine tenths, since the random number is always 0.
    await clock.advance(1);
    assert.equal(ends.length, 3);
    ends[2]?.resolve('3');
    await settle();
    assert.deepEqual(
      outcomes.map(({ cause }) => cause),
      ['start', 'refresh', 'timer'],
    );
    assert.equal(rounds.nextAt, clock.now() + 810_000);
  });

  it('do not repeat when the refresh interval is 0', async () => {
    const { clock, ends, rounds } = setUp(0);
    void rounds.ask('start');
    ends[0]?.resolve('1');
    await clock.advance(100_000_000);
    assert.deepEqual([ends.length, rounds.nextAt], [1, undefined]);
  });

  it('that fail with an unexpected error are failures with code internal', async () => {
    const { ends, rounds } = setUp();
    const asked = rounds.ask('start');
    ends[0]?.reject(new TypeError('oops'));
    assert.equal((await asked).failure?.code, 'internal');
    assert.equal(rounds.failures, 1);
  });

  it('are aborted when the sidecar stops, and report no outcome', async () => {
    const { clock, ends, rounds, outcomes } = setUp();
    void rounds.ask('start');
    rounds.stop();
    assert.equal(ends[0]?.signal.aborted, true);
    ends[0]?.reject(new Failure('connection_cut'));
    await clock.advance(100_000);
    assert.deepEqual([outcomes.length, ends.length], [0, 1]);
  });
});
