/** Owns the organization that a mapped name stands for, by its id in Domino, and so which memberships count. Pure. */
import { z } from 'zod';
import { parseJson } from '../lib/json.ts';

export const organizationConfigMap = 'irsa-organization-ids';

/** The oldest are dropped. Names are unique in Domino, so a new contender means that the one before lost the name. */
const mostContenders = 5;

const contenderSchema = z.object({
  id: z.string(),
  /** The member whose request recorded it, by name in Domino. */
  user: z.string(),
  /** ISO 8601. */
  at: z.string(),
});

const recordSchema = z.object({
  /** Domino's id of the organization. */
  id: z.string().min(1),
  /** The Domino user whose request recorded the id. */
  by: z.string(),
  at: z.string(),
  /** Other organizations of this name whose members requested roles, oldest first. */
  contenders: z.array(contenderSchema).default([]),
});

export type OrganizationRecord = z.infer<typeof recordSchema>;
export type Contender = z.infer<typeof contenderSchema>;
/** Organization's name -> its record. */
export type OrganizationRecords = ReadonlyMap<string, OrganizationRecord>;

/** A caller's organizations, as Domino reports them. */
export interface Organizations {
  readonly orgs: readonly string[];
  /** Name -> the ids of the caller's organizations of that name; no entry where Domino gave no id. */
  readonly organizationIds: ReadonlyMap<string, readonly string[]>;
}

export interface Membership {
  /** The names of the organizations whose membership counts. */
  orgs: readonly string[];
  /** Name -> the id of that organization; no entry where Domino gave no id. */
  ids: ReadonlyMap<string, string>;
  /** Name -> why the caller's membership does not count; part of a sentence. */
  refused: ReadonlyMap<string, string>;
  /** Mapped names without a record -> the id of the caller's organization. */
  unrecorded: ReadonlyMap<string, string>;
}

/** Reads the ConfigMap's data. An unreadable record matches no organization until an administrator accepts one. */
export function parseOrganizations(data: Readonly<Record<string, string>>): OrganizationRecords {
  const unreadable = { id: '', by: 'unknown', at: new Date(0).toISOString(), contenders: [] };
  return new Map(Object.entries(data).map(([org, text]) => [org, parseJson(recordSchema, text) ?? unreadable]));
}

/**
 * Whether a role request recorded for this organization id still counts. Requests of older releases have no id, and
 * count until they are recorded again.
 */
export function isSameOrganization(record: OrganizationRecord | undefined, id: string | undefined): boolean {
  return record === undefined || id === undefined || record.id === id;
}

/** Which of the caller's organizations count. Ids matter only for mapped names; the others always count. */
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

/** The mapped names with contenders: an administrator has to decide which organization each name stands for. */
export function contestedOrganizations(
  records: OrganizationRecords,
  { byOrg }: { byOrg: ReadonlyMap<string, unknown> },
) {
  return [...records].filter(([org, { contenders }]) => contenders.length > 0 && byOrg.has(org)).map(([org]) => org);
}

/** @returns the record with one more contender, or undefined where it needs no change. */
export function withContender(record: OrganizationRecord, contender: Contender): OrganizationRecord | undefined {
  // An empty id marks an unreadable record, to which nothing can be added.
  if (record.id === '' || record.id === contender.id) return undefined;
  if (record.contenders.some(({ id }) => id === contender.id)) return undefined;
  return { ...record, contenders: [...record.contenders, contender].slice(-mostContenders) };
}
