/** Owns the storage of the activity record: replicas append batches to their own ConfigMaps and delete the oldest. */
import { randomUUID } from 'node:crypto';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { z } from 'zod';
import type { ConfigMap, Kubernetes } from '../kubernetes/client.ts';
import { isMoved } from '../kubernetes/error.ts';
import { parseJson } from '../lib/json.ts';
import { type ActivityEntry, entrySchema } from './entry.ts';

export const activityLabel = 'irsa.dominodatalab.com/activity';
/** A ConfigMap may have 1 MiB. It stays smaller, since the API server stores it whole again for each batch. */
export const maxSegmentBytes = 65_536;
/** For all replicas together: about 4,000 entries, half for each part. A replica that stops leaves a small segment. */
export const maxRecordBytes = 2_097_152;
export const maxSegments = 128;

/** Outcomes of runs are kept apart, so that frequent requests do not push administrators' changes out of the record. */
export type Part = 'outcomes' | 'changes';
const outcomes: ReadonlySet<string> = new Set(['grant', 'role_token']);
export const partOf = ({ kind }: Pick<ActivityEntry, 'kind'>): Part => (outcomes.has(kind) ? 'outcomes' : 'changes');

/** The key beside the batches for the time until which entries were dropped, ISO 8601. */
const droppedKey = 'dropped-until';

export type SegmentCalls = Pick<
  Kubernetes,
  'listConfigMaps' | 'createConfigMap' | 'patchConfigMap' | 'deleteConfigMap'
>;

export interface Recorded {
  entries: ActivityEntry[];
  droppedUntil: string | undefined;
}

export interface Segments {
  /** Appends entries of one part in one write. @param droppedUntil until when entries were dropped unwritten. */
  append(entries: readonly ActivityEntry[], droppedUntil: string | undefined): Promise<void>;
  /** All replicas' entries, in no order. */
  read(): Promise<Recorded>;
}

interface Open {
  name: string;
  resourceVersion: string;
  bytes: number;
  batches: number;
}

export function createSegments(kubernetes: SegmentCalls): Segments {
  const open = new Map<Part, Open>();

  async function begin(part: Part, batch: string, dropped: string | undefined): Promise<void> {
    const { surplus, droppedUntil } = await room(kubernetes, part, dropped);
    const name = `irsa-activity-${randomUUID()}`;
    const data = { 'batch-0': batch, ...(droppedUntil === undefined ? {} : { [droppedKey]: droppedUntil }) };
    const made = await kubernetes.createConfigMap(name, data, { [activityLabel]: part });
    open.set(part, { name, resourceVersion: made.resourceVersion, bytes: Buffer.byteLength(batch), batches: 1 });
    for (const { name: old, resourceVersion } of surplus) {
      await kubernetes.deleteConfigMap(old, resourceVersion).catch(ignoreMoved);
    }
  }

  return {
    append: async (entries, dropped) => {
      const [first] = entries;
      if (!first) return;
      const part = partOf(first);
      const batch = JSON.stringify(entries);
      const known = open.get(part);
      const bytes = (known?.bytes ?? 0) + Buffer.byteLength(batch);
      if (!known || bytes > maxSegmentBytes) return begin(part, batch, dropped);
      const { name, resourceVersion, batches } = known;
      const changes = { [`batch-${batches}`]: batch, ...(dropped === undefined ? {} : { [droppedKey]: dropped }) };
      try {
        const written = await kubernetes.patchConfigMap(name, changes, resourceVersion, { [activityLabel]: part });
        open.set(part, { name, resourceVersion: written.resourceVersion, bytes, batches: batches + 1 });
      } catch (error) {
        // The segment was deleted as the oldest, edited by hand, or written without an answer. Copies share their ids.
        open.delete(part);
        ignoreMoved(error);
        await begin(part, batch, dropped);
      }
    },
    read: async () => readAll(await kubernetes.listConfigMaps(activityLabel)),
  };
}

/** Which of a part's oldest segments to delete to make room for a new one, and until when entries are missing then. */
async function room(kubernetes: SegmentCalls, part: Part, dropped: string | undefined) {
  const aged: { segment: ConfigMap; newest: string; bytes: number }[] = [];
  for (const segment of await kubernetes.listConfigMaps(`${activityLabel}=${part}`)) {
    await othersTurn();
    const newest = newestIn(segment);
    const bytes = Object.values(segment.data).reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    aged.push({ segment, newest, bytes });
  }
  aged.sort((a, b) => (a.newest < b.newest ? 1 : -1));
  let bytes = maxSegmentBytes;
  const first = aged.findIndex((one, index) => {
    bytes += one.bytes;
    return bytes > maxRecordBytes / 2 || index >= maxSegments / 2 - 1;
  });
  const surplus = first < 0 ? [] : aged.slice(first);
  const ends = [
    dropped,
    ...aged.map(({ segment }) => segment.data[droppedKey]),
    ...surplus.map(({ newest }) => newest),
  ];
  return { surplus: surplus.map(({ segment }) => segment), droppedUntil: latestOf(ends) };
}

async function readAll(all: readonly ConfigMap[]): Promise<Recorded> {
  const byId = new Map<string, ActivityEntry>();
  for (const segment of all) {
    await othersTurn();
    for (const entry of entriesIn(segment)) byId.set(entry.id, entry);
  }
  return { entries: [...byId.values()], droppedUntil: latestOf(all.map(({ data }) => data[droppedKey])) };
}

/** The time of the newest entry; '' where there is none. It parses only the last batch that has entries. */
function newestIn({ data }: ConfigMap): string {
  const batches = Object.entries(data).filter(([key]) => key.startsWith('batch-'));
  for (const [, batch] of batches.sort(([a], [b]) => Number(b.slice(6)) - Number(a.slice(6)))) {
    const at = latestOf(parsed(batch).map((entry) => entry.at));
    if (at) return at;
  }
  return '';
}

/** Leaves out entries that were made unreadable by hand. */
function entriesIn({ data }: ConfigMap): ActivityEntry[] {
  return Object.entries(data).flatMap(([key, batch]) => (key.startsWith('batch-') ? parsed(batch) : []));
}

function parsed(batch: string): ActivityEntry[] {
  const list = parseJson(z.array(z.unknown()), batch) ?? [];
  return list.flatMap((one) => entrySchema.safeParse(one).data ?? []);
}

/** The latest of ISO 8601 times. */
export function latestOf(times: readonly (string | undefined)[]): string | undefined {
  return (
    times
      .flatMap((at) => at ?? [])
      .sort()
      .at(-1) || undefined
  );
}

/** Throws the error again, unless another writer deleted or changed the ConfigMap. */
function ignoreMoved(error: unknown): void {
  if (!isMoved(error)) throw error;
}
