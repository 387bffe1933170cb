/** Owns the look-up of the roles that organizations propose as their members' default profile. Pure. */
import type { Membership } from './organizations.ts';
import { type Mappings, mappingsOf } from './role-mappings.ts';

/** @returns the ARNs of the proposed target roles. */
export function proposedDefaults({ orgs }: Pick<Membership, 'orgs'>, mappings: Mappings): Set<string> {
  const proposed = mappingsOf(orgs, mappings).filter((mapping) => mapping.default_profile === true);
  return new Set(proposed.map((mapping) => mapping.iam_role_arn));
}
