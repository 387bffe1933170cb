/** Owns which organization a mapped name stands for, by its id in Domino, and whose membership therefore counts. Pure. */
import { z } from 'zod';
import { parseJson } from '../lib/json.ts';

export const organizationConfigMap = 'irsa-organization-ids';

/** Older contenders give way: names are unique in Domino, so each needs the one before it to be renamed or deleted. */
const mostContenders = 5;

const contenderSchema = z.object({
  id: z.string(),
  /** The Domino user who asked as its member. */
  user: z.string(),
  /** ISO 8601. */
  at: z.string(),
});

const recordSchema = z.object({
  /** Domino's id of the organization. */
  id: z.string().min(1),
  /** The Domino user at whose request the id was written down. */
  by: z.string(),
  at: z.string(),
  /** Other organizations of this name whose members asked, oldest first. */
  contenders: z.array(contenderSchema).default([]),
});

export type OrganizationRecord = z.infer<typeof recordSchema>;
export type Contender = z.infer<typeof contenderSchema>;
/** Organization's name -> what is on record. */
export type OrganizationRecords = ReadonlyMap<string, OrganizationRecord>;

/** What Domino says of a caller's organizations. */
export interface Organizations {
  readonly orgs: readonly string[];
  /** Name -> the ids of the caller's organizations of that name; missing where Domino gave none. */
  readonly organizationIds: ReadonlyMap<string, readonly string[]>;
}

export interface Membership {
  /** The names that count. */
  orgs: readonly string[];
  /** Name -> the id of the organization by which it counts; missing where Domino gave none. */
  ids: ReadonlyMap<string, string>;
  /** Name -> why membership in the caller's organization of that name does not count; part of a sentence. */
  refused: ReadonlyMap<string, string>;
  /** Mapped names that have no record yet -> the caller's id of it. */
  unrecorded: ReadonlyMap<string, string>;
}

/** Reads the ConfigMap's data. A record that cannot be read stands for no organization: an administrator has to accept one. */
export function parseOrganizations(data: Readonly<Record<string, string>>): OrganizationRecords {
  const unreadable = { id: '', by: 'unknown', at: new Date(0).toISOString(), contenders: [] };
  return new Map(Object.entries(data).map(([org, text]) => [org, parseJson(recordSchema, text) ?? unreadable]));
}

/**
 * Whether something that was recorded for this organization id still counts. What older releases recorded carries no id
 * and counts until it is recorded anew.
 */
export function isSameOrganization(record: OrganizationRecord | undefined, id: string | undefined): boolean {
  return record === undefined || id === undefined || record.id === id;
}

/** Which of the caller's organizations count. Only the names that are mapped matter; the others are left as they are. */
export function membershipOf(
  { orgs, organizationIds }: Organizations,
  records: OrganizationRecords,
  isMapped: (org: string) => boolean,
): Membership {
  const counted: string[] = [];
  const ids = new Map<string, string>();
  const refused = new Map<string, string>();
  const unrecorded = new Map<string, string>();
  for (const org of orgs) {
    const own = organizationIds.get(org) ?? [];
    const record = records.get(org);
    const [only] = own;
    const id = record ? own.find((one) => one === record.id) : only;
    const isAmbiguous = !record && own.length > 1;
    if (isMapped(org) && ((record && id === undefined) || isAmbiguous)) {
      refused.set(org, reasonFor(org, own, isAmbiguous));
      continue;
    }
    counted.push(org);
    if (id === undefined || !isMapped(org)) continue;
    ids.set(org, id);
    if (!record) unrecorded.set(org, id);
  }
  return { orgs: counted, ids, refused, unrecorded };
}

function reasonFor(org: string, ids: readonly string[], isAmbiguous: boolean): string {
  const which = ids.length === 0 ? 'for which Domino gives no id' : `with id ${ids.join(' and ')}`;
  return isAmbiguous
    ? `Domino names several organizations ${org} of this user, ${which}, and no administrator has said which of them is mapped`
    : `the mapping of ${org} stands for another organization of that name than this user's, ${which}`;
}

/** The mapped names of which members of several organizations asked: an administrator has to say which one is meant. */
export function contestedOrganizations(
  records: OrganizationRecords,
  { byOrg }: { byOrg: ReadonlyMap<string, unknown> },
) {
  return [...records].filter(([org, { contenders }]) => contenders.length > 0 && byOrg.has(org)).map(([org]) => org);
}

/** @returns the record with one more contender, or undefined where it is there already. */
export function withContender(record: OrganizationRecord, contender: Contender): OrganizationRecord | undefined {
  // Nothing can be added to a record that cannot be read.
  if (record.id === '' || record.id === contender.id) return undefined;
  if (record.contenders.some(({ id }) => id === contender.id)) return undefined;
  return { ...record, contenders: [...record.contenders, contender].slice(-mostContenders) };
}
