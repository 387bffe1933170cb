/** Owns role tokens' part of a role's reconcile: what is confirmed, what fits in the document, and what IAM accepted. */

import { roleTokenAudience } from '../lib/arn.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { readTrustPolicy, type TrustPolicyView } from '../trust-policy/document.ts';
import { type TokenTrust, whoIsDenied } from '../trust-policy/role-tokens.ts';
import type { ProviderAudiences } from './provider-audiences.ts';
import type { ProxyRole } from './proxy-role.ts';
import type { RoleReconcileDeps } from './reconcile.ts';
import { costOf } from './run-placement.ts';

export interface RoleTokensDeps {
  audiences: ProviderAudiences;
  /** Whether a mapping or a live run needs the role's tokens, past every cache; true where the API server does not answer. */
  isStillByTokens: (role: ProxyRole) => Promise<boolean>;
  /** Whether a live pod of the service account belongs to a revoked run. */
  isShutOut: (account: string) => boolean;
  /** The ARN of the cluster's OIDC provider. */
  scope: { providerArn: string };
  clock: Clock;
  log: Log;
}

export interface TokensPlan {
  tokens: TokenTrust | undefined;
  /** Why some service accounts that should be denied are not. */
  problem: ProxyRole['conditions']['tokensProblem'];
}

/** The retry interval for a problem that a person has to fix in AWS. */
export const tokensRetryMs = 15_000;

/** The part for role tokens of a proxy role that is to hold no statement of ours. */
export function withoutTokens({ desired: { tokens } }: ProxyRole): { tokens?: TokenTrust } {
  return tokens ? { tokens: { audience: tokens.audience, granted: false, denied: new Set() } } : {};
}

/** The part for role tokens to write. Invariant 3: the statement is removed only once the API server confirms that. */
export async function confirmedTokens(
  deps: RoleTokensDeps,
  role: ProxyRole,
  tokens: TokenTrust | undefined,
  view: Pick<TrustPolicyView, 'tokens'>,
): Promise<TokenTrust | undefined> {
  const isRemoval = tokens && !tokens.granted && view.tokens?.granted;
  if (!isRemoval || !(await deps.isStillByTokens(role))) return tokens;
  deps.log.warn(
    { role: role.arn },
    'role tokens are still let in, since the API server does not confirm that the mapping and the last run ended',
  );
  // The service accounts that are denied now, and those of runs revoked since, are denied meanwhile.
  const revoked = [...role.desired.tokenEnds.keys()].filter(deps.isShutOut);
  return { ...tokens, granted: true, denied: new Set([...revoked, ...(view.tokens?.denied ?? [])]) };
}

/**
 * The characters available for members. New denials take no capacity from current members, except those of revoked runs.
 * New members get capacity only after all denials.
 * @param view the document, read with all desired denials and Pod Identity accounts in it.
 */
export function roomBeside(
  { scope, keep }: Pick<RoleReconcileDeps, 'scope' | 'keep'>,
  { desired, observed }: ProxyRole,
  text: string,
  view: TrustPolicyView,
  { pods, tokens, isProxy }: Pick<ProxyRole['desired'], 'pods' | 'tokens'> & { isProxy: boolean },
): number {
  const room = view.room(observed.maxChars, keep);
  const before = (tokens?.revoked ?? new Set<string>()).union(view.tokens?.denied ?? new Set<string>());
  const denied = tokens?.denied.intersection(before);
  if (!tokens || !denied || denied.size === tokens.denied.size) return room;
  const standing = readTrustPolicy(scope, text, { members: isProxy, pods, tokens: { ...tokens, denied } });
  if (standing.kind === 'refused') return room;
  const taken = costOf(desired.members.keys(), scope.namespace);
  return Math.max(room, Math.min(taken, standing.room(observed.maxChars, keep)));
}

/** Denies as many of the service accounts that should be denied as fit in the document. */
export function fittingTokens(
  role: ProxyRole,
  wanted: TokenTrust | undefined,
  fits: (tokens: TokenTrust) => boolean,
): TokensPlan {
  if (!wanted || wanted.denied.size === 0 || fits(wanted)) return { tokens: wanted, problem: undefined };
  const tokens = whoIsDenied(wanted, role.observed.tokens, fits);
  const left = wanted.denied.size - tokens.denied.size;
  const detail = `its trust policy has room to deny the tokens of ${tokens.denied.size} service accounts, and those of ${left} more work until they expire`;
  return { tokens, problem: { code: 'trust_policy_full', detail } };
}

/** Records that IAM accepted or showed a document with this part for role tokens. */
export function acceptTokens(role: ProxyRole, accepted: TokenTrust | undefined): void {
  const { desired, observed } = role;
  const isGone = accepted !== undefined && !accepted.granted && accepted.denied.size === 0;
  // The document has nothing left of it, and what is desired did not change meanwhile.
  if (isGone && desired.tokens === accepted) desired.tokens = undefined;
  observed.tokens = isGone ? undefined : accepted;
}

/** Checks that the OIDC provider lists the audience of the role's tokens; they need it. @returns the problem, if any. */
export async function checkAudience(
  { audiences, scope, log }: Pick<RoleTokensDeps, 'audiences' | 'scope' | 'log'>,
  role: ProxyRole,
  tokens: TokenTrust | undefined,
): Promise<ProxyRole['conditions']['tokensProblem']> {
  if (!tokens?.granted) return undefined;
  const audience = roleTokenAudience(role.arn);
  const before = role.conditions.tokensProblem;
  if (audience === undefined || (await audiences.lists(audience, before?.code === 'audience_missing')) !== false)
    return undefined;
  const command = `aws iam add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn ${scope.providerArn} --client-id ${audience}`;
  const detail = `the cluster's OIDC provider in IAM does not list the audience ${audience}, so that AWS takes no token of it; an administrator of AWS runs: ${command}`;
  if (before?.detail !== detail)
    log.error(
      { role: role.arn, audience, command },
      'role tokens do not work: the OIDC provider does not list their audience',
    );
  return { code: 'audience_missing', detail };
}
