/** Owns a caller's memberships at a request: the first organization id of a mapped name is recorded, other ids are refused. */
import type { Caller } from '../auth/caller.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { OrganizationStore } from '../mappings/organization-store.ts';
import {
  type Membership,
  membershipOf,
  type OrganizationRecords,
  type Organizations,
} from '../mappings/organizations.ts';
import type { Mappings } from '../mappings/role-mappings.ts';

export interface Memberships {
  /** The memberships by the ids on record; for calls that change nothing. */
  of(caller: Organizations): Membership;
  /**
   * The same, after recording ids for mapped names without one: the first id counts from then on, on every replica.
   * @param rules what to evaluate by; this replica's own mappings and records where they are left out.
   * @throws ApiError as `OrganizationStore.pin` does: a role is not given before its organization is on record.
   */
  settle(caller: Caller, rules?: MembershipRules): Promise<Membership>;
}

/** What membership rests on: which names are mapped, and which organizations they stand for. */
export interface MembershipRules {
  mappings: Pick<Mappings, 'byOrg'>;
  records: OrganizationRecords;
}

export interface MembershipsOptions {
  organizations: Pick<OrganizationStore, 'current' | 'read' | 'pin' | 'contend'>;
  mappings: () => Mappings;
  clock: Clock;
  log: Log;
  /** Called for each request of a member of an organization that does not count. */
  onRefused: () => void;
}

/** How often the log repeats that an organization is refused. */
const logPauseMs = 10 * 60_000;
/** How many refusals are remembered as logged; beyond that, one may be logged twice. */
const mostLogged = 1_000;

export function createMemberships(options: MembershipsOptions): Memberships {
  const { organizations, mappings, clock, log } = options;
  const loggedAt = new Map<string, number>();
  const rulesHere = (): MembershipRules => ({ mappings: mappings(), records: organizations.current() });

  /** @returns whether it was not logged lately. */
  function isNews(key: string): boolean {
    const at = loggedAt.get(key);
    if (at !== undefined && clock.monotonic() - at < logPauseMs) return false;
    if (loggedAt.size >= mostLogged) loggedAt.clear();
    loggedAt.set(key, clock.monotonic());
    return true;
  }

  function report(caller: Caller, { refused }: Membership, records: OrganizationRecords): void {
    for (const [org, reason] of refused) {
      options.onRefused();
      const record = records.get(org);
      const ids = caller.organizationIds.get(org) ?? [];
      for (const id of ids) {
        if (!record || record.contenders.some((one) => one.id === id)) continue;
        organizations.contend(org, id, caller.name).catch((error: unknown) => {
          log.warn(
            { err: error, org },
            'another organization of a mapped name was not written down; it is refused anyway',
          );
        });
      }
      if (!isNews(`${org} ${ids.join(' ')}`)) continue;
      const about = { audit: 'organization', decision: 'refused', org, organization_ids: ids, mapped_id: record?.id };
      log.error(
        { ...about, user: caller.name, reason },
        'a member of another organization of a mapped name asked, and was refused its roles',
      );
    }
  }

  return {
    of: (caller) => evaluateMembership(caller, rulesHere()),
    settle: async (caller, rules = rulesHere()) => {
      let { records } = rules;
      let membership = evaluateMembership(caller, rules);
      if (membership.unrecorded.size > 0) {
        const asked = membership.unrecorded;
        const pinned = await organizations.pin(asked, caller.name);
        // The API server's answer counts, not the watch, which may show the change later.
        records = new Map([...records, ...pinned]);
        membership = evaluateMembership(caller, { ...rules, records });
        for (const [org, { id, by }] of pinned) {
          if (id !== asked.get(org) || by !== caller.name || !isNews(`pinned ${org} ${id}`)) continue;
          const who = { user: caller.name, user_id: caller.id };
          const about = { audit: 'organization', decision: 'recorded', org, organization_id: id, ...who };
          log.warn(
            about,
            'the name of a mapped organization stands for this one from now on, since its member asked first',
          );
        }
      }
      if (membership.refused.size > 0) report(caller, membership, records);
      return membership;
    },
  };
}

/** The caller's membership by these rules; nothing is recorded. */
export function evaluateMembership(caller: Organizations, { mappings, records }: MembershipRules): Membership {
  return membershipOf(caller, records, (org) => mappings.byOrg.has(org));
}
