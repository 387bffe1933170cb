/** Owns which role is to trust which service account through EKS Pod Identity, and how far the writer of roles is. */
import type { ProxyRole, RoleError } from './assignments.ts';
import { type PodTrust, samePodTrust } from './pod-trust.ts';

/** `in`, `out`: IAM has accepted it. `pending`: a pass over the role is due. */
export type TrustState = 'in' | 'out' | 'pending' | RoleError;

export interface PodTrustKeeper {
  /** Makes just these roles trust the account. @param open no session tags are sent for it. */
  want(account: string, roles: ReadonlySet<string>, open: boolean): void;
  state(role: string, account: string): TrustState;
  /** The accounts that the role is to trust. */
  accountsOf(role: string): Iterable<string>;
}

export interface PodTrustKeeperOptions {
  role: (arn: string) => ProxyRole;
  /** The role's document is to be written. */
  changed: (role: ProxyRole) => void;
  /** Monotonic milliseconds. */
  monotonic: () => number;
}

export function createPodTrustKeeper(options: PodTrustKeeperOptions): PodTrustKeeper {
  /** Role -> account -> whether its session tags are off. */
  const wanted = new Map<string, Map<string, boolean>>();

  function apply(arn: string): void {
    const accounts = wanted.get(arn) ?? new Map<string, boolean>();
    const next: PodTrust = { accounts: new Set(accounts.keys()), open: [...accounts.values()].includes(true) };
    const role = options.role(arn);
    const isSo = samePodTrust(role.pods, next);
    if (!isSo) role.pods = next;
    // A role that could not be written is tried again now and then.
    const retry = role.error !== undefined && options.monotonic() >= role.error.until;
    if (!isSo || (retry && !samePodTrust(role.pods, role.acceptedPods))) options.changed(role);
  }

  return {
    want: (account, roles, open) => {
      const touched = [...wanted].filter(([arn, accounts]) => accounts.has(account) && !roles.has(arn));
      for (const [arn, accounts] of touched) {
        accounts.delete(account);
        apply(arn);
        if (accounts.size === 0) wanted.delete(arn);
      }
      for (const arn of roles) {
        wanted.set(arn, (wanted.get(arn) ?? new Map<string, boolean>()).set(account, open));
        apply(arn);
      }
    },
    state: (arn, account) => {
      const { pods, acceptedPods, error } = options.role(arn);
      const has = acceptedPods?.accounts.has(account) ?? false;
      const isWanted = wanted.get(arn)?.has(account) ?? false;
      if (has === isWanted && (pods?.open ?? false) === (acceptedPods?.open ?? false)) return has ? 'in' : 'out';
      return error ?? 'pending';
    },
    accountsOf: (arn) => wanted.get(arn)?.keys() ?? [],
  };
}
