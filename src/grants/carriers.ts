/** Owns the choice of a carrier for each role of a run: an entry in the trust policy, or a token. Pure. */
import type { ProxyChoice, Target } from '../mappings/role-mappings.ts';
import type { TokenRole } from '../runs/held-tokens.ts';
import type { RequestedRole, RoleRequest } from '../runs/role-request.ts';
import type { RoleOutcome } from './aws-config.ts';

export interface CarrierPlan {
  /** Targets to request by entries, and to wait for. */
  entries: Target[];
  /** Targets that are given by tokens, and to wait for. */
  tokens: (TokenRole & { managed: boolean })[];
  /** Entries that the run has, and keeps for as long as it lives: its processes may still use the earlier config file. */
  kept: RequestedRole[];
  /** Targets whose profiles are given unchecked. */
  unmanaged: Target[];
  refused: RoleOutcome[];
}

/**
 * @param roleTokens whether the client keeps token files.
 * @param recorded the requests on record of the run's service accounts.
 * @param choiceFor the organization by which the caller may have a role, by either carrier.
 */
export function planCarriers(
  targets: readonly Target[],
  roleTokens: boolean,
  recorded: readonly RoleRequest[],
  choiceFor: (target: string, proxy: string) => ProxyChoice | undefined,
): CarrierPlan {
  const plan: CarrierPlan = { entries: [], tokens: [], kept: [], unmanaged: [], refused: [] };
  for (const target of targets) {
    const kept = keptProxies(target, recorded, choiceFor);
    if (roleTokens && target.token) {
      plan.tokens.push({ target: target.arn, ...target.token });
      if (kept.length > 0) plan.kept.push({ target: target.arn, proxies: kept });
    } else if (!target.managed) plan.unmanaged.push(target);
    else {
      const others = kept.filter(({ arn }) => !target.proxies.some((one) => one.arn === arn));
      const proxies = [...target.proxies, ...others];
      if (proxies.length > 0) plan.entries.push({ ...target, proxies });
      else plan.refused.push(needsTokens(target.arn));
    }
  }
  return plan;
}

/** The proxy roles through which the run requested the target by an entry, and which the mappings still allow. */
function keptProxies(
  { arn: target }: Target,
  recorded: readonly RoleRequest[],
  choiceFor: (target: string, proxy: string) => ProxyChoice | undefined,
): ProxyChoice[] {
  const proxies = recorded
    .flatMap(({ roles }) => roles.filter((role) => role.target === target))
    .flatMap((role) => role.proxies);
  return [...new Set(proxies.map(({ arn }) => arn))].flatMap((arn) => choiceFor(target, arn) ?? []);
}

function needsTokens(target: string): RoleOutcome {
  const detail =
    'this role is given by a token, which a current sidecar fetches; any other client sends role_tokens: true, and then fetches the token with POST /role_tokens';
  return { kind: 'refused', target, code: 'needs_role_tokens', detail };
}
