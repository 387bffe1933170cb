/** Owns which role should trust which service account through EKS Pod Identity, and whether its trust policy does so yet. */
import type { Clock } from '../lib/clock.ts';
import {
  desirePods,
  forgetPods,
  type ProxyRole,
  podsAreReconciled,
  type RoleError,
} from '../proxy-roles/proxy-role.ts';
import { type PodTrust, samePodTrust } from '../trust-policy/pod-identity.ts';
import type { PodTrustProblem } from '../trust-policy/pod-identity-unmanaged.ts';

/** `in`, `out`: IAM has accepted it. `pending`: a reconcile of the role is due. */
export type TrustState = 'in' | 'out' | 'pending' | RoleError;

export interface PodTrustKeeper {
  /** Makes exactly these roles trust the account. @param roles role -> whether the account's session tags are off. */
  want(account: string, roles: ReadonlyMap<string, boolean>): void;
  /** Whether the role is to trust the account without session tags. */
  isOpen(role: string, account: string): boolean;
  state(role: string, account: string): TrustState;
  /** What a person has to fix in the role's document, although the account is in. */
  problem(role: string): PodTrustProblem | undefined;
  /** When IAM last accepted a change of the part for Pod Identity, milliseconds since the epoch. */
  writtenAt(role: string): number | undefined;
  /** Reconciles a role that could not be written, once its retry is due. */
  retry(role: string): void;
  /** Reconciles the role whatever is known of it, which removes accounts that are not wanted. */
  check(role: string): void;
}

export interface PodTrustKeeperOptions {
  role: (arn: string) => ProxyRole;
  /** Whether the role is unmanaged: then nothing in its document is ours, to add or to remove. */
  isUnmanaged: (arn: string) => boolean;
  /** Called when the role has to be reconciled. */
  roleChanged: (role: ProxyRole) => void;
  clock: Pick<Clock, 'monotonic'>;
}

export function createPodTrustKeeper(options: PodTrustKeeperOptions): PodTrustKeeper {
  /** Role -> account -> whether its session tags are off. */
  const wanted = new Map<string, Map<string, boolean>>();

  function apply(arn: string): void {
    const accounts = wanted.get(arn) ?? new Map<string, boolean>();
    const role = options.role(arn);
    if (options.isUnmanaged(arn)) {
      const wasOurs = role.desired.pods !== undefined || role.observed.pods !== undefined;
      desirePods(role, undefined);
      forgetPods(role);
      if (wasOurs) options.roleChanged(role);
      return;
    }
    const next: PodTrust = { accounts: new Set(accounts.keys()), open: [...accounts.values()].includes(true) };
    const isSo = samePodTrust(role.desired.pods, next);
    if (!isSo) desirePods(role, next);
    // A role that could not be written is retried once its error has expired.
    const retry = role.conditions.error !== undefined && options.clock.monotonic() >= role.conditions.error.until;
    if (!isSo || (retry && !(podsAreReconciled(role) && samePodTrust(role.desired.pods, role.observed.pods))))
      options.roleChanged(role);
  }

  return {
    want: (account, roles) => {
      const touched = [...wanted].filter(([arn, accounts]) => accounts.has(account) && !roles.has(arn));
      for (const [arn, accounts] of touched) {
        accounts.delete(account);
        apply(arn);
        if (accounts.size === 0) wanted.delete(arn);
      }
      for (const [arn, open] of roles) {
        wanted.set(arn, (wanted.get(arn) ?? new Map<string, boolean>()).set(account, open));
        apply(arn);
      }
    },
    isOpen: (arn, account) => wanted.get(arn)?.get(account) ?? false,
    state: (arn, account) => {
      const role = options.role(arn);
      const { pods } = role.desired;
      const { pods: acceptedPods } = role.observed;
      const { error } = role.conditions;
      const has = acceptedPods?.accounts.has(account) ?? false;
      const isWanted = wanted.get(arn)?.has(account) ?? false;
      if (has && isWanted && (pods?.open ?? false) === acceptedPods?.open) return 'in';
      // A write whose answer was lost may have let it in: it is out once IAM has accepted a document without it.
      if (!has && !isWanted && podsAreReconciled(role)) return 'out';
      return error ?? 'pending';
    },
    problem: (arn) => (options.isUnmanaged(arn) ? undefined : options.role(arn).conditions.podsProblem),
    writtenAt: (arn) => options.role(arn).observed.podsWrittenAt,
    retry: apply,
    check: (arn) => {
      const role = options.role(arn);
      // A new generation of the same accounts, so that they are reconciled again.
      desirePods(role, role.desired.pods ?? { accounts: new Set(), open: false });
      apply(arn);
      if (!options.isUnmanaged(arn)) options.roleChanged(role);
    },
  };
}
