/** Owns what a replica has to record and has not written yet: audit lines, made into entries behind requests, within bounds. */
import { hash } from 'node:crypto';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { type ActivityEntry, type AuditLine, entryOf, repeated } from './entry.ts';

export interface ActivityQueue {
  /** Keeps the line; nothing of it is done before it returns. */
  take(line: AuditLine): void;
  isEmpty(): boolean;
  /** Makes entries of the lines. @returns them all, the oldest first, and until when some were dropped. */
  settle(): Promise<{ entries: readonly ActivityEntry[]; droppedUntil: string | undefined }>;
  /** Lets go of what is written. @param droppedUntil as it was written with them. */
  written(entries: readonly ActivityEntry[], droppedUntil: string | undefined): void;
}

export interface QueueOptions {
  /** This process's name. */
  replica: string;
  /** The name of the user who started a run, where that is known. */
  ownerOf: (run: string) => string | undefined;
  /** Called with how many entries could not be kept. */
  onDropped: (count: number) => void;
}

/** Beyond it the oldest go: the API server has been away, or more happens than a record for people can hold. */
const mostQueued = 5_000;
const linesATurn = 100;
/** A user whose calls are refused again and again must not push all else out of the record. */
const mostRefusals = 20;
const refusalWindowMs = 10 * 60_000;
/** Runs whose last outcome is remembered, by a hash. */
const mostOutcomes = 20_000;

export function createActivityQueue({ replica, ownerOf, onDropped }: QueueOptions): ActivityQueue {
  const said = new LRUCache<string, string>({ max: mostOutcomes });
  const refusals = new LRUCache<string, { from: number; count: number }>({ max: mostOutcomes });
  const lines: AuditLine[] = [];
  let entries: ActivityEntry[] = [];
  let droppedUntil: string | undefined;
  let count = 0;

  /** @returns what it says, where it says something else than last time, or never repeats itself. */
  function newsOf(entry: ActivityEntry): { about: string; says: string } | 'always' | undefined {
    const content = repeated(entry);
    if (!content) return 'always';
    const says = hash('sha1', content.says, 'base64url');
    return said.get(content.about) === says ? undefined : { about: content.about, says };
  }

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
    const news = newsOf(entry);
    if (!news || isTooMany(entry)) return [];
    // What is not recorded now is news when it comes again.
    if (news !== 'always') said.set(news.about, news.says);
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
      // Others may have been added, or dropped, meanwhile.
      const ids = new Set(gone.map(({ id }) => id));
      entries = entries.filter(({ id }) => !ids.has(id));
      if (droppedUntil === until) droppedUntil = undefined;
    },
  };
}
