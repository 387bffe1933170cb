/** Owns the chain from an organization over its member's run and its carrier to the role, and which link is broken. Pure. */
import type { Mapping, RoleAccess } from './types.ts';

export type LinkState = 'good' | 'broken' | 'waiting' | 'unknown';

/** From the organization to the run, from the run to the proxy role or its token, and from there on to the role. */
export type Chain = readonly [organization: LinkState, run: LinkState, carrier: LinkState];

const whole = new Set(['granted', 'ready', 'in_another_proxy']);
/** The user does not belong to the organization, or the organization is not mapped to the role. */
const ofOrganization = new Set(['not_a_member', 'mapping_gone', 'invalid_mapping', 'organization_id_mismatch']);
const isWaiting = new Set(['pending', 'partly_granted', 'not_checked_yet']);
/** The run itself has no token. With every other code that is not named here, it is the role that takes none. */
const ofTokenRun = new Set([
  'not_requested',
  'refresh_needed',
  'needs_role_tokens',
  'run_revoked',
  'shared_service_account',
]);

/** Whether the role works as far as the service can tell. */
export function isWhole({ code }: Pick<RoleAccess, 'code'>): boolean {
  return whole.has(code);
}

/** The links before the broken one hold, save where the role refuses tokens; those after it are not known. */
export function chainOf({ code, carrier }: Pick<RoleAccess, 'code' | 'carrier'>): Chain {
  if (whole.has(code)) return ['good', 'good', 'good'];
  if (ofOrganization.has(code)) return ['broken', 'unknown', 'unknown'];
  if (code === 'kept_elsewhere') return ['good', 'unknown', 'unknown'];
  const state = isWaiting.has(code) ? 'waiting' : 'broken';
  // A role that refuses tokens refuses them to all runs, so it is not said whether this one has any.
  return carrier === 'token' && !ofTokenRun.has(code) ? ['good', 'unknown', state] : ['good', state, 'unknown'];
}

/** The link that a chain is told by: the one that does not hold, or else the first that is not known. */
export function worstOf(chain: Chain): LinkState {
  return (['broken', 'waiting', 'unknown'] as const).find((state) => chain.includes(state)) ?? 'good';
}

/** What a role's tokens are made for, `irsa/<role name>`. */
export function audienceOf(proxyArn: string): string {
  return `irsa/${proxyArn.split('/').at(-1)}`;
}

/** One mapping of an organization: a pair of roles may be mapped once by each carrier. */
export function keyOf(one: Pick<Mapping, 'iam_role_arn' | 'proxy_iam_role_arn' | 'carrier'>): string {
  return `${one.iam_role_arn} ${one.proxy_iam_role_arn} ${one.carrier ?? 'entry'}`;
}
