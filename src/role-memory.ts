/** Owns what the writer remembers of a role's document: to tell an old reading, and somebody else's edit, from the truth. */
import { type DriftMemory, newDriftMemory } from './drift.ts';
import { podTrustEntries, toPodTrust } from './pod-trust.ts';
import { placeholderSubject, subjectOf } from './subjects.ts';
import type { TrustStatus } from './trust-status.ts';

/** The subjects of ours that a document had in it, and when that was on the monotonic clock. */
interface KnownDocument {
  subjects: ReadonlySet<string>;
  at: number;
  /**
   * `accepted`: IAM took it from us, or showed it. `inherited`: the holder before us published it. `lost`: we sent it, and
   * nobody knows whether IAM took it.
   */
  how: 'accepted' | 'inherited' | 'lost';
}

export interface RoleMemory extends DriftMemory {
  /** Characters of the document, white space apart, and how many it may have. */
  size: number;
  maxChars: number;
  /** When IAM taught us that it is less than configured, on the monotonic clock. */
  learntAt: number | undefined;
  /** Published as a proxy role by the holder before, and not read since: it may have members that nobody told of. */
  unread: boolean;
  /** Whether it is published as a proxy role: the next holder will look at it, whatever becomes of its mapping. */
  announced: boolean;
  /** When it was taken over, on the monotonic clock: what the holder before wrote earlier is not known. */
  inheritedAt: number | undefined;
  writtenAt: string | undefined;
  comparedAt: string | undefined;
  /** The newest last; those older than IAM's readings can be are dropped, but for the newest. */
  documents: KnownDocument[];
  brake: { since: string; held: string[] } | undefined;
  compareId: string | undefined;
}

/** How long IAM may show a document older than our last write; until then what it shows is not taken for granted. */
const staleReadMs = 60_000;
/** How long a document of ours from before is more likely an old reading than somebody's edit. */
const oldReadingMs = 15_000;

export function newRoleMemory(maxChars: number): RoleMemory {
  return {
    size: 0,
    maxChars,
    learntAt: undefined,
    unread: false,
    announced: false,
    inheritedAt: undefined,
    writtenAt: undefined,
    comparedAt: undefined,
    documents: [],
    ...newDriftMemory(),
    brake: undefined,
    compareId: undefined,
  };
}

/**
 * Takes over what the holder before published. It may have written seconds ago: what IAM shows now may be older than
 * that. @param now on the monotonic clock, milliseconds.
 */
export function inherit(memory: RoleMemory, status: TrustStatus, namespace: string, now: number): void {
  memory.size = status.characters_used;
  memory.writtenAt = status.written_at;
  memory.drift = status.drift;
  memory.brake = status.brake;
  memory.compareId = status.compare_id;
  memory.unread = memory.announced = status.proxy === true;
  memory.inheritedAt = now;
  const subjects = new Set(Object.keys(status.members).map((name) => subjectOf(namespace, name)));
  if (subjects.size === 0 && status.pods === undefined) subjects.add(placeholderSubject);
  for (const entry of status.pods ? podTrustEntries(toPodTrust(status.pods)) : []) subjects.add(entry);
  // Of a write without an answer, as `fail` leaves it on record, nobody knows either.
  const isLost = Object.values(status.members).some(({ want }) => want === '');
  remember(memory, { subjects, at: now, how: isLost ? 'lost' : 'inherited' });
}

export function remember(memory: RoleMemory, document: KnownDocument): void {
  memory.documents = [...memory.documents.filter(({ at }) => document.at - at <= oldReadingMs), document];
}

/** Whether what IAM shows may be older than our last write, although it looks as wanted. */
export function mayBeStale(memory: RoleMemory, shown: ReadonlySet<string>, now: number): boolean {
  const newest = memory.documents.at(-1);
  if (!newest || now - newest.at > staleReadMs) return false;
  return newest.how === 'lost' || !sameSet(newest.subjects, shown);
}

/**
 * Whether somebody else changed who is in: the subjects shown are those of no document that IAM may still show.
 * @param now on the monotonic clock, milliseconds.
 * @returns what is different from the newest one.
 */
export function findDrift(
  memory: RoleMemory,
  shown: ReadonlySet<string>,
  now: number,
): { missing: string[]; extra: string[] } | undefined {
  const newest = memory.documents.at(-1);
  if (newest?.how !== 'accepted' || sameSet(newest.subjects, shown) || mayBeBefore(memory, now) > 0) return undefined;
  const old = memory.documents.filter(({ at }) => now - at <= oldReadingMs);
  if (old.some(({ subjects }) => sameSet(subjects, shown))) return undefined;
  return {
    missing: [...newest.subjects.difference(shown)].sort(),
    extra: [...shown.difference(newest.subjects)].sort(),
  };
}

/** @returns for how many milliseconds IAM may still show a document from before this holder, which it does not know. */
export function mayBeBefore({ inheritedAt }: RoleMemory, now: number): number {
  return inheritedAt === undefined ? 0 : Math.max(0, inheritedAt + oldReadingMs - now);
}

function sameSet(a: ReadonlySet<string>, b: ReadonlySet<string>): boolean {
  return a.size === b.size && a.isSubsetOf(b);
}
