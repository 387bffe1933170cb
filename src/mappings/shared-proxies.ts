/** Owns which proxy roles give an organization more target roles than its own mappings name. Pure. */
import type { RoleMapping } from './role-mappings.ts';

/** What an organization may reach through a proxy role that it shares with another one. */
export interface SharedReach {
  domino_org: string;
  /** Target roles of other organizations, which its members may assume where the proxy role's permissions allow it. */
  reaches_too: string[];
}

/**
 * A proxy role's permissions are one set for everybody who may assume it, so its members reach every target that it is
 * mapped to.
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
