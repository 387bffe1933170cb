/** Owns the bounded queue of activity that is not written yet: it turns audit lines into entries in the background. */
import { hash } from 'node:crypto';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { type ActivityEntry, type AuditLine, entryOf, repeated } from './entry.ts';

export interface ActivityQueue {
  /** Queues the line. It does no other work, since requests wait for it. */
  take(line: AuditLine): void;
  isEmpty(): boolean;
  /** Makes the lines into entries. @returns all queued entries, the oldest first, and until when some were dropped. */
  settle(): Promise<{ entries: readonly ActivityEntry[]; droppedUntil: string | undefined }>;
  /** Removes the written entries. @param droppedUntil the value that was written with them. */
  written(entries: readonly ActivityEntry[], droppedUntil: string | undefined): void;
}

export interface QueueOptions {
  /** This process's name. */
  replica: string;
  /** Finds the name of the user who started a run; undefined where it is not known. */
  ownerOf: (run: string) => string | undefined;
  /** Called with how many entries could not be kept. */
  onDropped: (count: number) => void;
}

/** Above it the oldest are dropped: the API server was unavailable, or more happens than people could read. */
const mostQueued = 5_000;
const linesATurn = 100;
/** At most so many refusals of a user in a window, so that a failing client does not push other entries out. */
const mostRefusals = 20;
const refusalWindowMs = 10 * 60_000;
/** How many last outcomes are remembered, each as a hash. */
const mostOutcomes = 20_000;

export function createActivityQueue({ replica, ownerOf, onDropped }: QueueOptions): ActivityQueue {
  const said = new LRUCache<string, string>({ max: mostOutcomes });
  const refusals = new LRUCache<string, { from: number; count: number }>({ max: mostOutcomes });
  const lines: AuditLine[] = [];
  let entries: ActivityEntry[] = [];
  let droppedUntil: string | undefined;
  let count = 0;

  function isTooMany({ decision, user = '', user_id: id = user, at }: ActivityEntry): boolean {
    if (decision !== 'refused') return false;
    const known = refusals.get(id);
    const isOver = known === undefined || Date.parse(at) - known.from > refusalWindowMs;
    const window = isOver ? { from: Date.parse(at), count: 0 } : known;
    window.count += 1;
    refusals.set(id, window);
    return window.count > mostRefusals;
  }

  function toEntry(line: AuditLine): ActivityEntry[] {
    const entry = entryOf(line, `${replica}.${count}`, replica, ownerOf);
    const content = repeated(entry);
    const says = content && hash('sha1', content.says, 'base64url');
    if (content && said.get(content.about) === says) return [];
    if (isTooMany(entry)) return [];
    // Only recorded entries are remembered: one that is left out here is recorded when it comes again.
    if (content) said.set(content.about, says);
    count += 1;
    return [entry];
  }

  function drop(lost: readonly { at: string | number }[]): void {
    const last = lost.at(-1);
    if (!last) return;
    onDropped(lost.length);
    droppedUntil = new Date(last.at).toISOString();
  }

  return {
    take: (line) => {
      lines.push(line);
      if (lines.length > 2 * mostQueued) drop(lines.splice(0, mostQueued));
    },
    isEmpty: () => lines.length === 0 && entries.length === 0,
    settle: async () => {
      while (lines.length > 0) {
        entries.push(...lines.splice(0, linesATurn).flatMap(toEntry));
        await othersTurn();
      }
      drop(entries.splice(0, Math.max(0, entries.length - mostQueued)));
      return { entries, droppedUntil };
    },
    written: (gone, until) => {
      // Entries may have been added or dropped in the meantime.
      const ids = new Set(gone.map(({ id }) => id));
      entries = entries.filter(({ id }) => !ids.has(id));
      if (droppedUntil === until) droppedUntil = undefined;
    },
  };
}
