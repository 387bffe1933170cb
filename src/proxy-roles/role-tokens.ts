/** Owns role tokens' part of one reconcile of a role: what is wanted once it was confirmed, what fits, and what IAM took. */

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
  /** Whether the API server itself says that a mapping or a live run needs the role's tokens, or cannot be asked. */
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
  /** Why not all who should be are denied. */
  problem: ProxyRole['conditions']['tokensProblem'];
}

/** A problem that a person mends in AWS is looked at again so soon. */
export const tokensRetryMs = 15_000;

/** What is desired of a role in which nothing of ours is to be left of them. */
export function withoutTokens({ desired: { tokens } }: ProxyRole): { tokens?: TokenTrust } {
  return tokens ? { tokens: { audience: tokens.audience, granted: false, denied: new Set() } } : {};
}

/** What of role tokens the reconcile brings into the document. Invariant 3: the statement does not go on a guess. */
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
  // Nobody is let in meanwhile who is kept out now, or was revoked since.
  const revoked = [...role.desired.tokenEnds.keys()].filter(deps.isShutOut);
  return { ...tokens, granted: true, denied: new Set([...revoked, ...(view.tokens?.denied ?? [])]) };
}

/**
 * The characters for members. Who is in stays in beside new denials, but for those of revoked runs, and nobody new comes in
 * before any of them.
 * @param view the document, beside all that is desired.
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

/** Of those who should be denied, as many as the document has room for. */
export function fittingTokens(
  role: ProxyRole,
  wanted: TokenTrust | undefined,
  fits: (tokens: TokenTrust) => boolean,
): TokensPlan {
  if (!wanted || wanted.denied.size === 0) return { tokens: wanted, problem: undefined };
  if (fits(wanted)) return { tokens: wanted, problem: undefined };
  const tokens = whoIsDenied(wanted, role.observed.tokens, fits);
  const left = wanted.denied.size - tokens.denied.size;
  const detail = `its trust policy has room to deny the tokens of ${tokens.denied.size} service accounts, and those of ${left} more work until they expire`;
  return { tokens, problem: { code: 'trust_policy_full', detail } };
}

/** IAM showed what it holds of role tokens, and not an old document. */
export function noticeTokens({ observed }: ProxyRole, view: Pick<TrustPolicyView, 'tokens'>): void {
  observed.tokens = view.tokens;
}

/** IAM has accepted, or shown, a document with this in it. */
export function acceptTokens(role: ProxyRole, accepted: TokenTrust | undefined): void {
  const { desired, observed } = role;
  const isGone = accepted !== undefined && !accepted.granted && accepted.denied.size === 0;
  // Nothing is left of it, and nothing was desired since.
  if (isGone && desired.tokens === accepted) desired.tokens = undefined;
  observed.tokens = isGone ? undefined : accepted;
}

/** Whether tokens of the role work: the provider has to list their audience. @returns what is wrong, if anything. */
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
