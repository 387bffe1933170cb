/** Owns the chain from an organization through its member's run and the carrier to the role, and finds the broken link. Pure. */
import type { Mapping, RoleAccess } from './types.ts';

export type LinkState = 'good' | 'broken' | 'waiting' | 'unknown';

/** The links: from the organization to the run, from the run to the proxy role or its token, and from there to the role. */
export type Chain = readonly [organization: LinkState, run: LinkState, carrier: LinkState];

const whole = new Set(['granted', 'ready', 'in_another_proxy']);
/** Codes of a user outside the organization, or of an organization that is not mapped to the role. */
const ofOrganization = new Set(['not_a_member', 'mapping_gone', 'invalid_mapping', 'organization_id_mismatch']);
const isWaiting = new Set(['pending', 'partly_granted', 'not_checked_yet']);
/** Codes that mean the run itself has no token. With every code not listed in this file, the role accepts no tokens. */
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

/** The links before the broken one are good, except where the role refuses tokens. The links after it are not known. */
export function chainOf({ code, carrier }: Pick<RoleAccess, 'code' | 'carrier'>): Chain {
  if (whole.has(code)) return ['good', 'good', 'good'];
  if (ofOrganization.has(code)) return ['broken', 'unknown', 'unknown'];
  if (code === 'kept_elsewhere') return ['good', 'unknown', 'unknown'];
  const state = isWaiting.has(code) ? 'waiting' : 'broken';
  // A role that refuses tokens refuses those of all runs, so whether this run has one is unknown.
  return carrier === 'token' && !ofTokenRun.has(code) ? ['good', 'unknown', state] : ['good', state, 'unknown'];
}

/** The state that summarizes a chain: broken before waiting before unknown. */
export function worstOf(chain: Chain): LinkState {
  return (['broken', 'waiting', 'unknown'] as const).find((state) => chain.includes(state)) ?? 'good';
}

/** The audience of a role's tokens, `irsa/<role name>`. */
export function audienceOf(proxyArn: string): string {
  return `irsa/${proxyArn.split('/').at(-1)}`;
}

/** Identifies one mapping of an organization: it may map a pair of roles once with each carrier. */
export function keyOf(one: Pick<Mapping, 'iam_role_arn' | 'proxy_iam_role_arn' | 'carrier'>): string {
  return `${one.iam_role_arn} ${one.proxy_iam_role_arn} ${one.carrier ?? 'entry'}`;
}
