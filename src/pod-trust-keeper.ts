/** Owns which role is to trust which service account through EKS Pod Identity, and how far the writer of roles is. */
import type { ProxyRole, RoleError } from './assignments.ts';
import { type PodTrust, samePodTrust } from './pod-trust.ts';

/** `in`, `out`: IAM has accepted it. `pending`: a pass over the role is due. */
export type TrustState = 'in' | 'out' | 'pending' | RoleError;

export interface PodTrustKeeper {
  /** Makes just these roles trust the account. @param roles and whether each is sent no session tags for it. */
  want(account: string, roles: ReadonlyMap<string, boolean>): void;
  /** Whether the role is to trust the account without session tags. */
  isOpen(role: string, account: string): boolean;
  state(role: string, account: string): TrustState;
  /** Has another look at a role that could not be written, when it is time. */
  retry(role: string): void;
  /** Has a look at the role's document, whatever is known of it, and takes out who is not wanted. */
  check(role: string): void;
}

export interface PodTrustKeeperOptions {
  role: (arn: string) => ProxyRole;
  /** Whether somebody else keeps the role's document: then nothing in it is ours, to add or to take away. */
  isKeptElsewhere: (arn: string) => boolean;
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
    const role = options.role(arn);
    if (options.isKeptElsewhere(arn)) {
      const wasOurs = role.pods !== undefined || role.acceptedPods !== undefined;
      role.pods = undefined;
      role.acceptedPods = undefined;
      role.settledPods = undefined;
      if (wasOurs) options.changed(role);
      return;
    }
    const next: PodTrust = { accounts: new Set(accounts.keys()), open: [...accounts.values()].includes(true) };
    const isSo = samePodTrust(role.pods, next);
    if (!isSo) role.pods = next;
    // A role that could not be written is tried again now and then.
    const retry = role.error !== undefined && options.monotonic() >= role.error.until;
    if (!isSo || (retry && !(isSettled(role) && samePodTrust(role.pods, role.acceptedPods)))) options.changed(role);
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
      const { pods, acceptedPods, error } = role;
      const has = acceptedPods?.accounts.has(account) ?? false;
      const isWanted = wanted.get(arn)?.has(account) ?? false;
      if (has && isWanted && (pods?.open ?? false) === acceptedPods?.open) return 'in';
      // A write whose answer was lost may have let it in: it is out when IAM has taken a document without it.
      if (!has && !isWanted && isSettled(role)) return 'out';
      return error ?? 'pending';
    },
    retry: apply,
    check: (arn) => {
      const role = options.role(arn);
      // Another object than the one that a pass ended with: it is to be settled anew.
      role.pods = { accounts: new Set(role.pods?.accounts), open: role.pods?.open ?? false };
      apply(arn);
      if (!options.isKeptElsewhere(arn)) options.changed(role);
    },
  };
}

/** Whether what is wanted now is, to the very object, what a pass over the role ended with. */
function isSettled({ pods, settledPods }: ProxyRole): boolean {
  return pods === settledPods;
}
