/** Proves the queue of things to look at: one at a time, none forgotten, none looked at more often than asked. */
import assert from 'node:assert/strict';
import { beforeOthers, createKeyedQueue } from '../src/keyed-queue.ts';
import { createLog } from '../src/log.ts';
import { FakeClock, settle } from './support/clock.ts';

describe('a keyed queue', () => {
  const clock = new FakeClock();
  let ending: AbortController;
  let lines: string[];

  beforeEach(() => {
    ending = new AbortController();
    lines = [];
  });

  function queueOf(serve: (key: string, failures: number) => Promise<number | undefined>) {
    const log = createLog('info', { write: (line: string) => void lines.push(line) });
    return createKeyedQueue({ serve, clock, log, signal: ending.signal });
  }

  it('looks at one at a time, and again at what is asked for meanwhile, once however often', async () => {
    const seen: string[] = [];
    const gates: (() => void)[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      await new Promise<void>((resolve) => gates.push(resolve));
      return undefined;
    });
    queue.due('a', 0);
    queue.due('b', 0);
    await settle();
    for (let times = 0; times < 3; times += 1) queue.due('a', 0);
    assert.deepEqual(seen, ['a']);
    for (let index = 0; index < 3; index += 1) {
      gates[index]?.();
      await settle();
    }
    assert.deepEqual(seen, ['a', 'b', 'a']);
    await settle();
    assert.equal(gates.length, 3);
  });

  it('looks before others at what cannot wait for a full comparison', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      return undefined;
    });
    for (const key of ['a', 'b', 'c']) queue.due(key, 0);
    queue.due('c', beforeOthers);
    queue.due('d', beforeOthers);
    await settle();
    assert.deepEqual(seen, ['a', 'c', 'd', 'b']);
  });

  it('waits as long as it is told, and no longer where something asks for it sooner', async () => {
    const seen: number[] = [];
    const start = clock.monotonic();
    const queue = queueOf(async () => {
      seen.push(clock.monotonic() - start);
      return seen.length < 3 ? 10_000 : undefined;
    });
    queue.due('a', 500);
    queue.due('a', 9_000);
    await clock.advance(499);
    assert.deepEqual(seen, []);
    await clock.advance(1);
    assert.deepEqual(seen, [500]);
    await clock.advance(2_000);
    queue.due('a', 0);
    await settle();
    assert.deepEqual(seen, [500, 2_500]);
    await clock.advance(60_000);
    assert.deepEqual(seen, [500, 2_500, 12_500]);
  });

  it('one that waits keeps nobody else waiting', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      return key === 'slow' ? 30_000 : undefined;
    });
    queue.due('slow', 0);
    await settle();
    queue.due('quick', 0);
    await settle();
    assert.deepEqual(seen, ['slow', 'quick']);
  });

  it('counts how often in a row it was not done, and forgets that when it is', async () => {
    const counts: number[] = [];
    const queue = queueOf(async (_key, failures) => {
      counts.push(failures);
      return counts.length % 3 === 0 ? undefined : 100;
    });
    queue.due('a', 0);
    await clock.advance(1_000);
    queue.due('a', 0);
    await clock.advance(1_000);
    assert.deepEqual(counts, [0, 1, 2, 0, 1, 2]);
  });

  it('a look that breaks is logged, tried again, and stops no other', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      if (seen.length === 1) throw new TypeError('broken');
      return undefined;
    });
    queue.due('a', 0);
    queue.due('b', 0);
    await settle();
    assert.deepEqual(seen, ['a', 'b']);
    assert.equal(lines.filter((line) => line.includes('"level":"error"')).length, 1);
    await clock.advance(5_000);
    assert.deepEqual(seen, ['a', 'b', 'a']);
  });

  it('nothing that comes in any moment of its work is forgotten', async () => {
    for (let turns = 0; turns < 30; turns += 1) {
      const seen: string[] = [];
      const queue = queueOf(async (key) => {
        seen.push(key);
        return undefined;
      });
      queue.due('a', 0);
      // So many microtasks later: before, in, and just after its last look.
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      queue.due('b', 0);
      await settle();
      assert.deepEqual(seen, ['a', 'b'], `after ${turns} turns`);
    }
  });

  it('ends when it is told to, after what is under way', async () => {
    const seen: string[] = [];
    let open: () => void = () => undefined;
    const queue = queueOf(async (key) => {
      seen.push(key);
      await new Promise<void>((resolve) => {
        open = resolve;
      });
      return 1;
    });
    queue.due('a', 0);
    queue.due('b', 0);
    await settle();
    ending.abort();
    let isIdle = false;
    const idle = queue.idle().then(() => {
      isIdle = true;
    });
    await settle();
    assert.equal(isIdle, false);
    open();
    await idle;
    queue.due('c', 0);
    await clock.advance(60_000);
    assert.deepEqual(seen, ['a']);
    await queue.idle();
  });
});
