/** Proves that the engine of the controllers reconciles each key with one worker at a time, and forgets none. */
import assert from 'node:assert/strict';
import { createLog } from '../../src/lib/log.ts';
import { beforeOthers, done, failed, ReconcileQueue, type Reconciler, requeue } from '../../src/reconcile/queue.ts';
import { FakeClock, settle } from '../support/clock.ts';

describe('the engine of the controllers', () => {
  const clock = new FakeClock();
  let ending: AbortController;
  let lines: string[];

  beforeEach(() => {
    ending = new AbortController();
    lines = [];
  });

  function queueOf(reconcile: Reconciler, workers = 1) {
    const log = createLog('info', { write: (line: string) => void lines.push(line) });
    return new ReconcileQueue({ reconcile, of: 'a thing', workers, clock, log, signal: ending.signal });
  }

  it('reconciles one key at a time, and once more a key that becomes due meanwhile, however often', async () => {
    const seen: string[] = [];
    const gates: (() => void)[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      await new Promise<void>((resolve) => gates.push(resolve));
      return done;
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

  it('reconciles urgent keys before others', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      return done;
    });
    for (const key of ['a', 'b', 'c']) queue.due(key, 0);
    queue.due('c', beforeOthers);
    queue.due('d', beforeOthers);
    await settle();
    assert.deepEqual(seen, ['a', 'c', 'd', 'b']);
  });

  it('waits for the requested delay, or less when the key becomes due sooner', async () => {
    const seen: number[] = [];
    const start = clock.monotonic();
    const queue = queueOf(async () => {
      seen.push(clock.monotonic() - start);
      return seen.length < 3 ? requeue(10_000) : done;
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

  it('does not delay other keys while one waits', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      return key === 'slow' ? requeue(30_000) : done;
    });
    queue.due('slow', 0);
    await settle();
    queue.due('quick', 0);
    await settle();
    assert.deepEqual(seen, ['slow', 'quick']);
  });

  it('counts the failures of a key since it was last done, across requeues', async () => {
    const counts: number[] = [];
    const queue = queueOf(async (_key, failures) => {
      counts.push(failures);
      const results = [failed(100), requeue(100), failed(100), done];
      return results[(counts.length - 1) % 4] ?? done;
    });
    queue.due('a', 0);
    await clock.advance(1_000);
    queue.due('a', 0);
    await clock.advance(1_000);
    assert.deepEqual(counts, [0, 1, 1, 2, 0, 1, 1, 2]);
  });

  it('retries a failed key after a pause that doubles up to 30 seconds', async () => {
    const at: number[] = [];
    const start = clock.monotonic();
    const queue = queueOf(async () => {
      at.push(clock.monotonic() - start);
      return failed(4_000);
    });
    queue.due('a', 0);
    for (let second = 0; second < 90; second += 1) await clock.advance(1_000);
    assert.deepEqual(at, [0, 4_000, 12_000, 28_000, 58_000, 88_000]);
    ending.abort();
  });

  it('reconciles several keys at a time with several workers, and no key twice at once', async () => {
    const seen: string[] = [];
    const gates = new Map<string, () => void>();
    const queue = queueOf(async (key) => {
      seen.push(key);
      // As a reconciler does when it finds more work for its key.
      if (seen.length === 1) queue.due(key, 0);
      await new Promise<void>((resolve) => gates.set(key, resolve));
      return done;
    }, 2);
    for (const key of ['a', 'b', 'c']) queue.due(key, 0);
    queue.due('b', 0);
    await settle();
    assert.deepEqual(seen, ['a', 'b']);
    gates.get('b')?.();
    await settle();
    assert.deepEqual(seen, ['a', 'b', 'c']);
    gates.get('c')?.();
    await settle();
    assert.deepEqual(seen, ['a', 'b', 'c', 'b']);
    gates.get('a')?.();
    await settle();
    assert.deepEqual(seen, ['a', 'b', 'c', 'b', 'a']);
    ending.abort();
  });

  it('logs and retries a reconcile that throws, and continues with other keys', async () => {
    const seen: string[] = [];
    const queue = queueOf(async (key) => {
      seen.push(key);
      if (seen.length === 1) throw new TypeError('broken');
      return done;
    });
    queue.due('a', 0);
    queue.due('b', 0);
    await settle();
    assert.deepEqual(seen, ['a', 'b']);
    assert.equal(lines.filter((line) => line.includes('"level":"error"')).length, 1);
    await clock.advance(5_000);
    assert.deepEqual(seen, ['a', 'b', 'a']);
  });

  it('forgets no key that becomes due at any moment of its work', async () => {
    for (let turns = 0; turns < 30; turns += 1) {
      const seen: string[] = [];
      const queue = queueOf(async (key) => {
        seen.push(key);
        return done;
      });
      queue.due('a', 0);
      // So many microtasks later: before, during and just after its last reconcile.
      for (let turn = 0; turn < turns; turn += 1) await Promise.resolve();
      queue.due('b', 0);
      await settle();
      assert.deepEqual(seen, ['a', 'b'], `after ${turns} turns`);
    }
  });

  it('stops when its signal aborts, after the reconcile under way', async () => {
    const seen: string[] = [];
    let open: () => void = () => undefined;
    const queue = queueOf(async (key) => {
      seen.push(key);
      await new Promise<void>((resolve) => {
        open = resolve;
      });
      return requeue(1);
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
