/** Owns which roles organizations propose as their members' default profile. Pure. */
import type { Membership } from './organizations.ts';
import { type Mappings, mappingsOf } from './role-mappings.ts';

/** The target roles that these organizations propose as their members' default profile. */
export function proposedDefaults({ orgs }: Pick<Membership, 'orgs'>, mappings: Mappings): Set<string> {
  const proposed = mappingsOf(orgs, mappings).filter((mapping) => mapping.default_profile === true);
  return new Set(proposed.map((mapping) => mapping.iam_role_arn));
}
