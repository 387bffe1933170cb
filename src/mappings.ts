/** Owns role mappings: their stored forms, and which roles a caller's organizations lead to. Pure. */
import { parseRoleArn } from './arn.ts';

export const mappingConfigMap = 'domino-org-iamrole-mapping';

/** A mapping as clients send and get it. */
export interface RoleMapping {
  domino_org: string;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  /** A boolean, or "true"/"false": given back as it was sent. */
  update_iam_role_trust_policy: boolean | string;
}

/** A proxy role through which a target may be reached. */
export interface ProxyChoice {
  arn: string;
  org: string;
}

export interface Target {
  arn: string;
  /** In the order of the mapping. */
  proxies: ProxyChoice[];
  /** False: somebody else keeps the trust policy of the first proxy, and we only name it. */
  managed: boolean;
}

export interface RefusedTarget {
  arn: string;
  code: 'invalid_mapping';
  detail: string;
}

export interface Mappings {
  /** Organization -> its mappings in order. Organizations come sorted. */
  readonly byOrg: ReadonlyMap<string, readonly RoleMapping[]>;
  /** Proxy roles whose trust policy is ours to write. */
  readonly managedProxies: ReadonlySet<string>;
  /** Proxy roles whose trust policy somebody else keeps, as a mapping says. */
  readonly foreignProxies: ReadonlySet<string>;
  /** Organizations whose stored text could not be read, with the reason. */
  readonly unreadable: ReadonlyMap<string, string>;
  /** Whether the mapping of `org` leads to `target` through `proxy`, and the proxy is ours to write. */
  allows(org: string, target: string, proxy: string): boolean;
}

/** Whether irsa-svc is to write this mapping's proxy role. Only an explicit false says no. */
export function isManaged(mapping: Pick<RoleMapping, 'update_iam_role_trust_policy'>): boolean {
  return String(mapping.update_iam_role_trust_policy).toLowerCase() !== 'false';
}

/** One organization's list as it is stored. */
export function storedText(mappings: readonly RoleMapping[]): string {
  return JSON.stringify(mappings);
}

/**
 * Reads the ConfigMap's data: per organization a JSON string with a list of mappings, or one mapping as in releases
 * before 1.8. A text that cannot be read takes away its organization's roles and nobody else's.
 */
export function parseMappings(data: Readonly<Record<string, string>>): Mappings {
  const byOrg = new Map<string, readonly RoleMapping[]>();
  const unreadable = new Map<string, string>();
  for (const org of Object.keys(data).sort()) {
    const list = parseOrg(org, data[org] ?? '');
    if (typeof list === 'string') unreadable.set(org, list);
    else byOrg.set(org, list);
  }
  const all = [...byOrg.values()].flat();
  // Where one mapping says that somebody else keeps a proxy's policy, nobody's mapping makes us write it.
  const foreign = new Set(all.filter((mapping) => !isManaged(mapping)).map((mapping) => mapping.proxy_iam_role_arn));
  const managed = all.map((mapping) => mapping.proxy_iam_role_arn).filter((arn) => !foreign.has(arn));
  const managedProxies = new Set(managed.filter((arn) => parseRoleArn(arn) !== undefined));
  return {
    byOrg,
    unreadable,
    managedProxies,
    foreignProxies: foreign,
    allows: (org, target, proxy) =>
      managedProxies.has(proxy) &&
      (byOrg.get(org) ?? []).some((m) => m.iam_role_arn === target && m.proxy_iam_role_arn === proxy),
  };
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

/** The four keys of a mapping, with what was not sent filled in: the organization, and true. */
export function completeMapping(
  org: string,
  sent: {
    iam_role_arn: string;
    proxy_iam_role_arn: string;
    domino_org?: unknown;
    update_iam_role_trust_policy?: unknown;
  },
): RoleMapping {
  const { domino_org: ownOrg, update_iam_role_trust_policy: update } = sent;
  return {
    domino_org: typeof ownOrg === 'string' ? ownOrg : org,
    iam_role_arn: sent.iam_role_arn,
    proxy_iam_role_arn: sent.proxy_iam_role_arn,
    update_iam_role_trust_policy: typeof update === 'boolean' || typeof update === 'string' ? update : true,
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
export function resolve(orgs: readonly string[], mappings: Mappings): { targets: Target[]; refused: RefusedTarget[] } {
  const mine = new Set(orgs);
  const pools = new Map<string, ProxyChoice[]>();
  const refused = new Map<string, RefusedTarget>();
  for (const [org, list] of mappings.byOrg) {
    if (!mine.has(org)) continue;
    for (const { iam_role_arn: target, proxy_iam_role_arn: proxy } of list) {
      const wrong = [target, proxy].find((arn) => !parseRoleArn(arn));
      if (wrong !== undefined) {
        const detail = `the mapping of organization ${org} holds a text that is not the ARN of an IAM role`;
        refused.set(target, { arn: target, code: 'invalid_mapping', detail });
        continue;
      }
      const pool = pools.get(target) ?? [];
      if (!pool.some((choice) => choice.arn === proxy && choice.org === org)) pool.push({ arn: proxy, org });
      pools.set(target, pool);
    }
  }
  const targets = [...pools].map(([arn, pool]): Target => {
    const managed = mappings.managedProxies.has((pool[0] as ProxyChoice).arn);
    const proxies = managed ? pool.filter((choice) => mappings.managedProxies.has(choice.arn)) : pool.slice(0, 1);
    return { arn, proxies, managed };
  });
  targets.sort((a, b) => (a.arn < b.arn ? -1 : 1));
  return { targets, refused: [...refused.values()].filter(({ arn }) => !pools.has(arn)) };
}
