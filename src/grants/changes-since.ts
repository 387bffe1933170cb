/**
 * Owns finding role requests that are older than a change of an organization's mapping or id, or of a revocation. The change
 * may remove the run, while the leader's status shows it as a member a moment longer: it needs a new request. Invariant 6.
 */
import { isDeepStrictEqual } from 'node:util';
import { LRUCache } from 'lru-cache';
import type { Clock } from '../lib/clock.ts';
import type { OrganizationStore } from '../mappings/organization-store.ts';
import type { OrganizationRecords } from '../mappings/organizations.ts';
import type { MappingStore } from '../mappings/store.ts';
import type { Revocations } from '../runs/revocations.ts';
import { askersOf, type RoleRequest } from '../runs/role-request.ts';

export interface ChangesSinceDeps {
  mappings: Pick<MappingStore, 'synced' | 'onChange'>;
  organizations: Pick<OrganizationStore, 'onChange'>;
  revocations: Pick<Revocations, 'synced' | 'onChange'>;
  clock: Clock;
}

const mostRemembered = 10_000;

/** @returns a check whether something that a request depends on has changed since it was made, as far as this replica saw. */
export function createChangesSince(deps: ChangesSinceDeps): (request: RoleRequest) => boolean {
  const { mappings, organizations, revocations, clock } = deps;
  /** When an organization or a run changed, milliseconds since the epoch. */
  const changedAt = new LRUCache<string, number>({ max: mostRemembered });
  const note = (names: Iterable<string>) => {
    for (const name of names) changedAt.set(name, clock.now());
  };
  // The first read is not a change.
  void Promise.all([mappings.synced, revocations.synced]).then(() => {
    mappings.onChange((now, before) => note(differing(now.byOrg, before.byOrg)));
    organizations.onChange((now, before) => note(differing(idsOf(now), idsOf(before))));
    revocations.onChange((now, before) => note(differing(now, before)));
  });
  return (request) => {
    const orgs = request.roles.flatMap(({ proxies }) => proxies.map(({ org }) => org));
    const at = Date.parse(request.at);
    return [...orgs, ...askersOf(request)].some((name) => (changedAt.get(name) ?? Number.NEGATIVE_INFINITY) >= at);
  };
}

/** The ids alone: a new contender for a name is not a change. */
const idsOf = (records: OrganizationRecords) => new Map([...records].map(([org, { id }]) => [org, id]));

function differing<T>(now: ReadonlyMap<string, T>, before: ReadonlyMap<string, T>): string[] {
  const names = new Set([...now.keys(), ...before.keys()]);
  return [...names].filter((name) => !isDeepStrictEqual(now.get(name), before.get(name)));
}
