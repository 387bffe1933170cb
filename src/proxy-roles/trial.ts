/** Owns a trial of changed mappings: where the leader would place the runs, from what it published. In memory, without I/O. */
import type { Mappings } from '../mappings/role-mappings.ts';
import { Placements, type PlacementsOptions } from './placements.ts';
import { recover } from './proxy-role.ts';
import { costOf } from './run-placement.ts';
import type { TrustStatus } from './status.ts';

export interface TrialSources {
  before: Mappings;
  after: Mappings;
  /** The requests, and what makes them count. */
  requests: Pick<PlacementsOptions, 'accounts' | 'pods' | 'isRevoked'>;
  statuses: readonly TrustStatus[];
  /** The namespace that runs live in. */
  namespace: string;
}

/** @returns the placements after the change. A role that no status shows takes nobody: its capacity is not known. */
export function tryMappings({ before, after, requests, statuses, namespace }: TrialSources): Placements {
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
  return placements;
}
