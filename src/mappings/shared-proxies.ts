/** Owns the search for proxy roles that give an organization more target roles than its own mappings name. Pure. */
import type { RoleMapping } from './role-mappings.ts';

/** The extra target roles that an organization reaches through a proxy role that it shares with another one. */
export interface SharedReach {
  domino_org: string;
  /** Target roles of other organizations, which its members may assume where the proxy role's permissions allow it. */
  reaches_too: string[];
}

/**
 * Everyone who may assume a proxy role has all of its permissions, so its members reach every target that any
 * organization maps to it.
 * @returns the organizations that reach more than they are mapped to, by name.
 */
export function sharedReach(proxy: string, byOrg: ReadonlyMap<string, readonly RoleMapping[]>): SharedReach[] {
  const users = [...byOrg].filter(([, list]) => list.some((one) => one.proxy_iam_role_arn === proxy));
  const targets = new Set(
    users.flatMap(([, list]) => list.flatMap((one) => (one.proxy_iam_role_arn === proxy ? one.iam_role_arn : []))),
  );
  return users.flatMap(([domino_org, list]) => {
    const others = targets.difference(new Set(list.map((one) => one.iam_role_arn)));
    return others.size === 0 ? [] : [{ domino_org, reaches_too: [...others].sort() }];
  });
}
