/** Owns a replica's activity record: it writes queued entries in batches in the background, and reads all replicas'. */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { ActivityEntry } from './entry.ts';
import { type ActivityQueue, createActivityQueue, type QueueOptions } from './queue.ts';
import { latestOf, maxSegmentBytes, partOf, type Recorded, type Segments } from './segments.ts';

export interface Activity {
  take: ActivityQueue['take'];
  /** All replicas' entries, and those that this one has queued, the newest first. @throws KubernetesError */
  read(): Promise<Recorded>;
  /** Stops the writing in the background, and writes the queued entries. A failed write is not retried. */
  stop(): Promise<void>;
}

export interface ActivityOptions extends QueueOptions {
  segments: Segments;
  clock: Clock;
  log: Log;
}

/** How long entries gather before a write. A killed replica loses at most so much. */
const pauseMs = 2_000;
const retryMs = 10_000;
/** How long readers share one list of the ConfigMaps. */
const freshMs = 1_000;

export function createActivity(options: ActivityOptions): Activity {
  const { segments, clock, log } = options;
  const queue = createActivityQueue(options);
  const stopping = new AbortController();
  let running: Promise<void> | undefined;
  let shared: { at: number; recorded: Promise<Recorded> } | undefined;

  /** Writes the entries that are queued now; later ones wait for the next flush. @returns whether all were written. */
  async function flush(): Promise<boolean> {
    const { entries, droppedUntil } = await queue.settle();
    for (const batch of batchesOf(entries)) {
      try {
        await segments.append(batch, droppedUntil);
      } catch (error) {
        log.info({ err: error, waiting: entries.length }, 'the activity record was not written; trying again');
        return false;
      }
      queue.written(batch, droppedUntil);
      shared = undefined;
    }
    return true;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted && !queue.isEmpty()) {
      await clock.sleep(pauseMs, stopping.signal);
      if (!(await flush())) await clock.sleep(retryMs, stopping.signal);
    }
    running = undefined;
  }

  function readShared(): Promise<Recorded> {
    if (shared && clock.monotonic() - shared.at <= freshMs) return shared.recorded;
    const recorded = segments.read();
    shared = { at: clock.monotonic(), recorded };
    recorded.catch(() => {
      shared = undefined;
    });
    return recorded;
  }

  return {
    take: (line) => {
      queue.take(line);
      running ??= run();
    },
    read: async () => {
      const { entries, droppedUntil } = await queue.settle();
      // Copied before the list is read: an entry written in between is in both, with the same id.
      const own = [...entries];
      const recorded = await readShared();
      const all = new Map([...recorded.entries, ...own].map((entry) => [entry.id, entry]));
      const until = latestOf([recorded.droppedUntil, droppedUntil]);
      return { entries: [...all.values()].sort(newestFirst), droppedUntil: until };
    },
    stop: async () => {
      stopping.abort();
      await running;
      while (!queue.isEmpty() && (await flush()));
    },
  };
}

/** The key that orders entries, and that marks where a page of them ends. */
export function keyOfEntry({ at, id }: ActivityEntry): string {
  return `${at} ${id}`;
}

function newestFirst(a: ActivityEntry, b: ActivityEntry): number {
  return a.at === b.at ? (a.id < b.id ? 1 : -1) : a.at < b.at ? 1 : -1;
}

/** Batches of one part each, of at most a quarter of a segment. */
function batchesOf(entries: readonly ActivityEntry[]): ActivityEntry[][] {
  const batches: ActivityEntry[][] = [];
  for (const part of Object.values(Object.groupBy(entries, partOf))) {
    let bytes = Infinity;
    for (const entry of part) {
      const added = Buffer.byteLength(JSON.stringify(entry)) + 1;
      bytes += added;
      if (bytes > maxSegmentBytes / 4) {
        batches.push([]);
        bytes = added;
      }
      batches.at(-1)?.push(entry);
    }
  }
  return batches;
}
