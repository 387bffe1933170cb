/** Owns role mappings: their stored forms, and the roles that a caller's organizations map to. Pure. */
import { parseRoleArn, roleTokenAudience } from '../lib/arn.ts';
import { isSameOrganization, type Membership, type OrganizationRecords } from './organizations.ts';

export const mappingConfigMap = 'domino-org-iamrole-mapping';

/** A mapping as clients send and receive it. */
export interface RoleMapping {
  domino_org: string;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  /** A boolean, or "true"/"false": returned as it was sent. */
  update_iam_role_trust_policy: boolean | string;
  /** How members' runs get the role; `entry` where it is missing. */
  carrier?: Carrier;
  /** Whether the organization proposes the target as its members' default profile. */
  default_profile?: boolean;
}

/** `entry`: the trust policy lists the run. `token`: the run gets tokens with an audience that the trust policy has. */
export type Carrier = 'entry' | 'token';

/** A proxy role through which a run may assume a target role. */
export interface ProxyChoice {
  arn: string;
  org: string;
  /** Domino's id of the caller's organization; missing where Domino gave none. */
  org_id?: string | undefined;
}

export interface Target {
  arn: string;
  /** In the order of the mapping. */
  proxies: ProxyChoice[];
  /** False where the first proxy role is unmanaged: its owner maintains its trust policy, and we only name the role. */
  managed: boolean;
  /** The proxy role of role tokens, for clients that keep token files; the target itself where it needs no proxy. */
  token?: TokenChoice;
}

/** A proxy role that a run assumes with a role token. */
export interface TokenChoice extends ProxyChoice {
  /** Whether irsa-svc manages its trust policy. */
  managed: boolean;
}

export interface RefusedTarget {
  arn: string;
  code: 'invalid_mapping' | 'organization_id_mismatch';
  detail: string;
}

export interface Mappings {
  /** Organization -> its mappings in order. Organizations come sorted. */
  readonly byOrg: ReadonlyMap<string, readonly RoleMapping[]>;
  /** Proxy roles whose trust policies irsa-svc writes. */
  readonly managedProxies: ReadonlySet<string>;
  /** Proxy roles that a mapping marks as unmanaged: their owners maintain their trust policies. */
  readonly unmanagedProxies: ReadonlySet<string>;
  /** Proxy roles of mappings with `carrier: token`, managed or not. */
  readonly tokenProxies: ReadonlySet<string>;
  /** Those of `tokenProxies` that share a role name: a token for one would be valid for the other. */
  readonly ambiguousProxies: ReadonlySet<string>;
  /** Organizations whose stored text could not be read, with the reason. */
  readonly unreadable: ReadonlyMap<string, string>;
  /** Whether the mapping of `org` leads to `target` through `proxy`, managed or not. */
  names(org: string, target: string, proxy: string): boolean;
  /**
   * Whether the mapping of `org` leads to `target` through `proxy`, by either carrier, and the proxy role is managed.
   * @param orgId the organization id in the role request, where it has one: another organization's requests are void.
   */
  allows(org: string, target: string, proxy: string, orgId?: string): boolean;
}

/** Whether irsa-svc manages the trust policy of this mapping's proxy role: unless the mapping says false. */
export function isManaged(mapping: Pick<RoleMapping, 'update_iam_role_trust_policy'>): boolean {
  return String(mapping.update_iam_role_trust_policy).toLowerCase() !== 'false';
}

export function isByToken({ carrier }: Pick<RoleMapping, 'carrier'>): boolean {
  return carrier === 'token';
}

/** The stored form of one organization's mappings. */
export function storedText(mappings: readonly RoleMapping[]): string {
  return JSON.stringify(mappings);
}

/**
 * Reads the ConfigMap's data: for each organization a JSON text with a list of mappings, or with one mapping as in
 * releases before 1.8. An unreadable text costs only its own organization its roles.
 * @param records the organizations that the names stand for.
 */
export function parseMappings(
  data: Readonly<Record<string, string>>,
  records: OrganizationRecords = new Map(),
): Mappings {
  const byOrg = new Map<string, readonly RoleMapping[]>();
  const unreadable = new Map<string, string>();
  for (const org of Object.keys(data).sort()) {
    const list = parseOrg(org, data[org] ?? '');
    if (typeof list === 'string') unreadable.set(org, list);
    else byOrg.set(org, list);
  }
  const all = [...byOrg.values()].flat();
  // A proxy role that one mapping marks as unmanaged is never written, whatever other mappings say.
  const foreign = new Set(all.filter((mapping) => !isManaged(mapping)).map((mapping) => mapping.proxy_iam_role_arn));
  const managed = all.map((mapping) => mapping.proxy_iam_role_arn).filter((arn) => !foreign.has(arn));
  const managedProxies = new Set(managed.filter((arn) => parseRoleArn(arn) !== undefined));
  const tokenArns = all.filter(isByToken).map((mapping) => mapping.proxy_iam_role_arn);
  const tokenProxies = new Set(tokenArns.filter((arn) => parseRoleArn(arn) !== undefined));
  const names = (org: string, target: string, proxy: string) =>
    (byOrg.get(org) ?? []).some((m) => m.iam_role_arn === target && m.proxy_iam_role_arn === proxy);
  return {
    byOrg,
    unreadable,
    managedProxies,
    unmanagedProxies: foreign,
    tokenProxies,
    ambiguousProxies: ambiguous(tokenProxies),
    names,
    allows: (org, target, proxy, orgId) =>
      managedProxies.has(proxy) && isSameOrganization(records.get(org), orgId) && names(org, target, proxy),
  };
}

/** Two roles of one name are ambiguous, since a token's audience has the role's name without account and path. */
function ambiguous(proxies: ReadonlySet<string>): ReadonlySet<string> {
  const byAudience = Map.groupBy(proxies, (arn) => roleTokenAudience(arn)?.toLowerCase());
  return new Set([...byAudience.values()].filter((arns) => arns.length > 1).flat());
}

function parseOrg(org: string, text: string): RoleMapping[] | string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return 'not JSON';
  }
  const list = Array.isArray(parsed) ? parsed : [parsed];
  const mappings: RoleMapping[] = [];
  for (const item of list as unknown[]) {
    if (typeof item !== 'object' || item === null || Array.isArray(item)) return 'an entry is not an object';
    const entry = item as Partial<Record<keyof RoleMapping, unknown>>;
    const { iam_role_arn: target, proxy_iam_role_arn: proxy } = entry;
    if (typeof target !== 'string' || typeof proxy !== 'string') return 'an entry has no role ARNs';
    mappings.push(completeMapping(org, { ...entry, iam_role_arn: target, proxy_iam_role_arn: proxy }));
  }
  return mappings;
}

/** The mapping with defaults for missing fields: the organization, and managed. Optional fields stay left out. */
export function completeMapping(
  org: string,
  sent: {
    iam_role_arn: string;
    proxy_iam_role_arn: string;
    domino_org?: unknown;
    update_iam_role_trust_policy?: unknown;
    carrier?: unknown;
    default_profile?: unknown;
  },
): RoleMapping {
  const { domino_org: ownOrg, update_iam_role_trust_policy: update, carrier, default_profile } = sent;
  return {
    domino_org: typeof ownOrg === 'string' ? ownOrg : org,
    iam_role_arn: sent.iam_role_arn,
    proxy_iam_role_arn: sent.proxy_iam_role_arn,
    update_iam_role_trust_policy: typeof update === 'boolean' || typeof update === 'string' ? update : true,
    ...(carrier === 'entry' || carrier === 'token' ? { carrier } : {}),
    ...(typeof default_profile === 'boolean' ? { default_profile } : {}),
  };
}

/** The mappings of these organizations, as `GET /my_role_mappings` lists them. */
export function mappingsOf(orgs: readonly string[], mappings: Mappings): RoleMapping[] {
  const mine = new Set(orgs);
  return [...mappings.byOrg].filter(([org]) => mine.has(org)).flatMap(([, list]) => list);
}

/**
 * The target roles that a member of these organizations may use, and the proxy roles to each. Mappings of one target
 * form one pool of proxy roles, also across organizations (in the order of their names).
 * @returns targets sorted by ARN, and the targets that no mapping can give, with the reason.
 */
export function resolve(
  { orgs, ids, refused: refusedOrgs }: Pick<Membership, 'orgs' | 'ids' | 'refused'>,
  mappings: Mappings,
): { targets: Target[]; refused: RefusedTarget[] } {
  const mine = new Set(orgs);
  const pools = new Map<string, { entries: ProxyChoice[]; token?: TokenChoice }>();
  const refused = new Map<string, RefusedTarget>();
  for (const [org, list] of mappings.byOrg) {
    const reason = refusedOrgs.get(org);
    if (reason !== undefined) {
      for (const { iam_role_arn: arn } of list)
        refused.set(arn, { arn, code: 'organization_id_mismatch', detail: reason });
    }
    if (!mine.has(org)) continue;
    const id = ids.get(org);
    const from = { org, ...(id === undefined ? {} : { org_id: id }) };
    for (const mapping of list) {
      const { iam_role_arn: target, proxy_iam_role_arn: proxy } = mapping;
      const detail = whyUnusable(org, mapping, mappings);
      if (detail !== undefined) {
        refused.set(target, { arn: target, code: 'invalid_mapping', detail });
        continue;
      }
      const pool = pools.get(target) ?? { entries: [] };
      pools.set(target, pool);
      if (isByToken(mapping)) pool.token ??= { arn: proxy, ...from, managed: mappings.managedProxies.has(proxy) };
      else if (!pool.entries.some((choice) => choice.arn === proxy && choice.org === org))
        pool.entries.push({ arn: proxy, ...from });
    }
  }
  const targets = [...pools].map(([arn, { entries, token }]): Target => {
    const managed = entries.length === 0 || mappings.managedProxies.has((entries[0] as ProxyChoice).arn);
    const proxies = managed ? entries.filter((choice) => mappings.managedProxies.has(choice.arn)) : entries.slice(0, 1);
    return { arn, proxies, managed, ...(token ? { token } : {}) };
  });
  targets.sort((a, b) => (a.arn < b.arn ? -1 : 1));
  return { targets, refused: [...refused.values()].filter(({ arn }) => !pools.has(arn)) };
}

function whyUnusable(org: string, mapping: RoleMapping, { ambiguousProxies }: Mappings): string | undefined {
  const { iam_role_arn: target, proxy_iam_role_arn: proxy } = mapping;
  if ([target, proxy].some((arn) => !parseRoleArn(arn))) {
    return `the mapping of organization ${org} holds a text that is not the ARN of an IAM role`;
  }
  if (!isByToken(mapping) || !ambiguousProxies.has(proxy)) return undefined;
  return `role tokens name ${roleTokenAudience(proxy)?.slice(5)}, which another mapped role has for a name too`;
}

/** Finds the caller's organization whose mapping, by either carrier, leads to the target through the proxy role. */
export function choiceOf(
  { orgs, ids }: Pick<Membership, 'orgs' | 'ids'>,
  { names }: Pick<Mappings, 'names'>,
): (target: string, proxy: string) => ProxyChoice | undefined {
  return (target, proxy) => {
    const org = orgs.find((one) => names(one, target, proxy));
    const id = org && ids.get(org);
    return org === undefined ? undefined : { arn: proxy, org, ...(id === undefined ? {} : { org_id: id }) };
  };
}
