/** Owns Pod Identity mappings: their stored form, and which service account belongs to which Domino user. Pure. */
import { z } from 'zod';
import { parseRoleArn } from '../lib/arn.ts';
import { isServiceAccountName } from '../trust-policy/subjects.ts';
import { sessionPolicyProblem } from './session-policy.ts';

export const podIdentityConfigMap = 'domino-pod-identity-mapping';

const storedSchema = z.object({
  /** In the compute namespace. */
  service_account: z.string(),
  /** In the cluster's account. */
  iam_role_arn: z.string(),
  /** Domino's `canonicalId` of the user: as an administrator sent it, or as the user's first pod carried it. */
  domino_user_id: z.string().optional(),
  /** The id of another person whose pods carried the user's name. */
  contender_id: z.string().optional(),
  /** A role that EKS goes on to assume, in any account. */
  target_role_arn: z.string().optional(),
  /** A session policy as JSON text: the pods may do what both it and the role allow. Needs session tags off. */
  policy: z.string().optional(),
  disable_session_tags: z.boolean().default(false),
  /** False: the role is unmanaged, its owner keeps its trust policy. */
  update_iam_role_trust_policy: z.boolean().default(true),
});

/** A mapping as administrators send and get it. */
export type PodIdentityMapping = { domino_user: string } & Omit<z.infer<typeof storedSchema>, 'contender_id'>;

/** What was sent for a user. */
export type PodIdentitySent = Pick<PodIdentityMapping, 'domino_user' | 'iam_role_arn'> & Partial<PodIdentityMapping>;

export interface PodIdentityProblem {
  code: 'invalid_mapping' | 'name_taken';
  detail: string;
}

export interface ReplacedUser {
  code: 'user_id_mismatch';
  detail: string;
}

export interface PodIdentities {
  /** Domino user -> the mapping, sorted by user. */
  readonly byUser: ReadonlyMap<string, PodIdentityMapping>;
  /** Service account -> the mapping, where it can be used. */
  readonly byAccount: ReadonlyMap<string, PodIdentityMapping>;
  /** Users whose mapping cannot be used: what they have stays as it is. */
  readonly problems: ReadonlyMap<string, PodIdentityProblem>;
  /** Users whose name another person has now: what they have is removed, since that person's pods would get it. */
  readonly replaced: ReadonlyMap<string, ReplacedUser>;
  /** Roles that are unmanaged, as a mapping says: their owners keep their trust policies. */
  readonly unmanagedRoles: ReadonlySet<string>;
}

/** Longer names make pods fail in other places: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ */
const maxDefaultName = 63;
const suffix = '-sa';

/**
 * The default service account of a user: the name in DNS-1123 with `-sa` after it.
 * @returns undefined where nothing of the name is left.
 */
export function defaultServiceAccount(user: string): string | undefined {
  const plain = user
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, maxDefaultName - suffix.length)
    .replace(/^-+|-+$/g, '');
  return plain === '' ? undefined : `${plain}${suffix}`;
}

/** Whether any pod may get the account, or Domino makes it for a single run: it then cannot be one user's. */
export function isReservedAccount(name: string): boolean {
  return name === 'default' || /(^|-)[0-9a-f]{24}(-|$)/.test(name);
}

/** One user's mapping as it is stored. */
export function storedPodIdentity({ domino_user: _user, ...mapping }: PodIdentityMapping, contender?: string): string {
  return JSON.stringify({ ...mapping, ...(contender === undefined ? {} : { contender_id: contender }) });
}

/** The mapping that was sent, with defaults in place of missing fields. */
export function completePodIdentity(sent: PodIdentitySent): PodIdentityMapping {
  return {
    domino_user: sent.domino_user,
    ...(sent.domino_user_id === undefined ? {} : { domino_user_id: sent.domino_user_id }),
    service_account: sent.service_account ?? defaultServiceAccount(sent.domino_user) ?? '',
    iam_role_arn: sent.iam_role_arn,
    ...(sent.target_role_arn === undefined ? {} : { target_role_arn: sent.target_role_arn }),
    ...(sent.policy === undefined ? {} : { policy: sent.policy }),
    disable_session_tags: sent.disable_session_tags ?? false,
    update_iam_role_trust_policy: sent.update_iam_role_trust_policy ?? true,
  };
}

/**
 * Reads the ConfigMap's data: per Domino user a JSON object. Where two users name one account, neither can use it: the
 * pods of one would get the role of the other.
 */
export function parsePodIdentities(data: Readonly<Record<string, string>>): PodIdentities {
  const byUser = new Map<string, PodIdentityMapping>();
  const problems = new Map<string, PodIdentityProblem>();
  const replaced = new Map<string, ReplacedUser>();
  for (const user of Object.keys(data).sort()) {
    const found = parseOne(user, data[user] ?? '');
    if (typeof found === 'string') {
      problems.set(user, { code: 'invalid_mapping', detail: found });
      continue;
    }
    byUser.set(user, found.mapping);
    if (found.contender === undefined) continue;
    const detail = `pods of another person carry the name ${user}: Domino's id ${found.contender}, and not ${found.mapping.domino_user_id}`;
    replaced.set(user, { code: 'user_id_mismatch', detail });
  }
  const byAccount = new Map<string, PodIdentityMapping>();
  for (const [account, mappings] of Map.groupBy(byUser.values(), (mapping) => mapping.service_account)) {
    const detail = `service account ${account} is also mapped to another user; each user needs one of their own`;
    for (const mapping of mappings) {
      const { domino_user: user } = mapping;
      if (mappings.length > 1) problems.set(user, { code: 'name_taken', detail });
      else if (!replaced.has(user)) byAccount.set(account, mapping);
    }
  }
  const foreign = [...byUser.values()].filter((mapping) => !mapping.update_iam_role_trust_policy);
  return {
    byUser,
    byAccount,
    problems,
    replaced,
    unmanagedRoles: new Set(foreign.map((mapping) => mapping.iam_role_arn)),
  };
}

/** One user's mapping as it is stored, with the id of another person of that name, where one was seen. */
interface StoredPodIdentity {
  mapping: PodIdentityMapping;
  contender: string | undefined;
}

/** @returns the mapping, or why it cannot be used. */
function parseOne(user: string, text: string): StoredPodIdentity | string {
  let parsed: ReturnType<typeof storedSchema.safeParse>;
  try {
    parsed = storedSchema.safeParse(JSON.parse(text));
  } catch {
    return 'the stored mapping is not JSON';
  }
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return `the stored mapping cannot be read: ${issue?.path.join('.')} ${issue?.message}`;
  }
  const { contender_id: contender, ...stored } = parsed.data;
  const mapping = { domino_user: user, ...stored };
  return problemOf(mapping) ?? { mapping, contender };
}

/** @returns the user's stored mapping, or undefined where there is none, or none that can be used. */
export function storedPodIdentityOf(
  user: string,
  data: Readonly<Record<string, string>>,
): StoredPodIdentity | undefined {
  const text = Object.hasOwn(data, user) ? data[user] : undefined;
  const found = text === undefined ? undefined : parseOne(user, text);
  return typeof found === 'string' ? undefined : found;
}

/** @returns why the account cannot be one user's; undefined where it can. */
export function accountProblem(account: string): string | undefined {
  if (!isServiceAccountName(account)) return 'service_account is not the name of a Kubernetes service account';
  if (isReservedAccount(account)) return `service_account ${account} is one that Domino gives to pods by itself`;
  return undefined;
}

/** @returns why a stored mapping cannot be used; undefined where it can. */
function problemOf(mapping: PodIdentityMapping): string | undefined {
  const { service_account: account, iam_role_arn: role, target_role_arn: target } = mapping;
  const problem = accountProblem(account);
  if (problem !== undefined) return problem;
  if (!parseRoleArn(role)) return 'iam_role_arn is not the ARN of an IAM role';
  if (target !== undefined && !parseRoleArn(target)) return 'target_role_arn is not the ARN of an IAM role';
  return policyProblem(mapping);
}

/** @returns why EKS would refuse the mapping's session policy; undefined where it would not, or there is none. */
export function policyProblem({ policy, disable_session_tags: isOff }: PodIdentityMapping): string | undefined {
  return policy === undefined ? undefined : sessionPolicyProblem(policy, !isOff);
}
