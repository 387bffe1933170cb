/** Owns role mappings: their stored forms, and which roles a caller's organizations lead to. Pure. */
import { parseRoleArn, roleTokenAudience } from '../lib/arn.ts';
import { isSameOrganization, type Membership, type OrganizationRecords } from './organizations.ts';

export const mappingConfigMap = 'domino-org-iamrole-mapping';

/** A mapping as clients send and get it. */
export interface RoleMapping {
  domino_org: string;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  /** A boolean, or "true"/"false": given back as it was sent. */
  update_iam_role_trust_policy: boolean | string;
  /** How its members' runs get the role: `entry`, in the trust policy, where it was not sent. */
  carrier?: Carrier;
  /** Whether the organization proposes the target as its members' default profile. */
  default_profile?: boolean;
}

/** `entry`: the trust policy lists the run. `token`: the run gets tokens that the trust policy asks for. */
export type Carrier = 'entry' | 'token';

/** A proxy role through which a target may be reached. */
export interface ProxyChoice {
  arn: string;
  org: string;
  /** Domino's id of the organization whose member asked; missing where Domino gave none. */
  org_id?: string | undefined;
}

export interface Target {
  arn: string;
  /** In the order of the mapping. */
  proxies: ProxyChoice[];
  /** False: the first proxy role is unmanaged: its owner keeps its trust policy, and we only name it. */
  managed: boolean;
  /** The proxy role whose tokens carry it, for clients that keep token files; the target itself where that is direct. */
  token?: TokenChoice;
}

/** A proxy role that a run reaches with a token of its own. */
export interface TokenChoice extends ProxyChoice {
  /** Whether its trust policy is ours to keep. */
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
  /** Proxy roles whose trust policy is ours to write. */
  readonly managedProxies: ReadonlySet<string>;
  /** Proxy roles that a mapping says are unmanaged: their owners keep their trust policies. */
  readonly unmanagedProxies: ReadonlySet<string>;
  /** Proxy roles that a mapping carries by tokens, managed or not. */
  readonly tokenProxies: ReadonlySet<string>;
  /** Of these, the ones whose role name another one has: a token for either would be one for both. */
  readonly ambiguousProxies: ReadonlySet<string>;
  /** Organizations whose stored text could not be read, with the reason. */
  readonly unreadable: ReadonlyMap<string, string>;
  /** Whether the mapping of `org` leads to `target` through `proxy`, managed or not. */
  names(org: string, target: string, proxy: string): boolean;
  /**
   * Whether the mapping of `org` leads to `target` through `proxy`, by either carrier, and the proxy is ours to write.
   * @param orgId of the organization whose member asked, where that was recorded: requests by another one are void.
   */
  allows(org: string, target: string, proxy: string, orgId?: string): boolean;
}

/** Whether irsa-svc is to write this mapping's proxy role. Only an explicit false says no. */
export function isManaged(mapping: Pick<RoleMapping, 'update_iam_role_trust_policy'>): boolean {
  return String(mapping.update_iam_role_trust_policy).toLowerCase() !== 'false';
}

export function isByToken({ carrier }: Pick<RoleMapping, 'carrier'>): boolean {
  return carrier === 'token';
}

/** One organization's list as it is stored. */
export function storedText(mappings: readonly RoleMapping[]): string {
  return JSON.stringify(mappings);
}

/**
 * Reads the ConfigMap's data: per organization a JSON string with a list of mappings, or one mapping as in releases
 * before 1.8. A text that cannot be read takes away its organization's roles alone.
 * @param records which organizations the names stand for.
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
  // A proxy role that one mapping says is unmanaged is not written, whatever other mappings say.
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

/** The audience of a token names the role, and neither its account nor its path. */
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

/** The keys of a mapping, with what was not sent filled in: the organization, and true. What is optional is there when it was sent. */
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
 * Which target roles a member of these organizations may use, through which proxy roles. Entries that share a target
 * are one target with a pool of proxies, also across organizations (in the order of their names).
 * @returns targets sorted by ARN, and what stored mappings cannot be used, with the reason.
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

/** The organization of the caller whose mapping, by either carrier, leads to the target through the proxy role. */
export function choiceOf(
  { orgs, ids }: Pick<Membership, 'orgs' | 'ids'>,
  { byOrg }: Pick<Mappings, 'byOrg'>,
): (target: string, proxy: string) => ProxyChoice | undefined {
  return (target, proxy) => {
    const org = orgs.find((one) =>
      byOrg.get(one)?.some((mapping) => mapping.iam_role_arn === target && mapping.proxy_iam_role_arn === proxy),
    );
    const id = org && ids.get(org);
    return org === undefined ? undefined : { arn: proxy, org, ...(id === undefined ? {} : { org_id: id }) };
  };
}
