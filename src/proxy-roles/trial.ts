/** Owns the dry run of a mapping change: where the leader would place the runs, by published statuses. In memory, without I/O. */
import type { Mappings, ProxyChoice } from '../mappings/role-mappings.ts';
import type { RequestedRole } from '../runs/role-request.ts';
import { Placements, type PlacementsOptions } from './placements.ts';
import { recover } from './proxy-role.ts';
import { allowedProxies, costOf } from './run-placement.ts';
import type { TrustStatus } from './status.ts';

export interface TrialSources {
  before: Mappings;
  after: Mappings;
  /** The service accounts with their requests, and the pods and revocations that decide which requests count. */
  requests: Pick<PlacementsOptions, 'accounts' | 'pods' | 'isRevoked'>;
  statuses: readonly TrustStatus[];
  /** The namespace that runs live in. */
  namespace: string;
}

/** @returns the candidate of the request in which the account is placed; undefined where it has no place. */
export type PlaceOf = (account: string, role: RequestedRole) => ProxyChoice | undefined;

/** @returns the places after the change. A role without a status accepts no members: its capacity is not known. */
export function tryMappings({ before, after, requests, statuses, namespace }: TrialSources): PlaceOf {
  let mappings = before;
  const placements = new Placements({
    ...requests,
    mappings: () => mappings,
    computeNamespace: namespace,
    maxChars: 0,
    monotonic: () => 0,
    onChange: () => undefined,
  });
  for (const arn of before.managedProxies.union(after.managedProxies)) placements.role(arn).observed.capacity = 0;
  for (const status of statuses) {
    const role = placements.role(status.role_arn);
    recover(role, status, namespace, 0, false);
    const free = Math.max(0, status.characters_allowed - status.characters_used);
    role.observed.capacity = free + costOf(Object.keys(status.members), namespace);
    if (status.error) role.conditions.error = { ...status.error, until: Infinity };
  }
  placements.all();
  mappings = after;
  placements.all();
  return (account, role) =>
    allowedProxies(role, after).find(({ arn }) => placements.role(arn).desired.members.has(account));
}
