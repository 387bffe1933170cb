/** Owns the rule when a role request counts, for placement, the removal guard, sibling accounts, cleanup and previews. Pure. */
import type { Pod, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import { isServiceAccountName } from '../trust-policy/subjects.ts';
import { askersOf, parseRoleRequest, type RoleRequest } from './role-request.ts';
import { allStartedBy, type PodIndex } from './runs.ts';

/** The input of the rule: the caches of this replica, or fresh lists from the API server. */
export interface RequestView {
  accounts: { get(name: string): Pick<ServiceAccount, 'wanted'> | undefined };
  /** The live pods of a service account. */
  pods: Pick<PodIndex, 'ofAccount'>;
  isRevoked: (run: string) => boolean;
}

/** Whether a run that made the request has a live pod on the service account. @param live the account's live pods. */
export function hasLiveAsker(request: Pick<RoleRequest, 'run' | 'also'>, live: readonly Pod[]): boolean {
  const askers = askersOf(request);
  return live.some(({ run }) => run !== undefined && askers.has(run));
}

/** Whether a live pod of the service account belongs to a revoked run. AWS cannot tell it from the account's other runs. */
export function isShutOut(account: string, { pods, isRevoked }: Omit<RequestView, 'accounts'>): boolean {
  return pods.ofAccount(account).some(({ run }) => run !== undefined && isRevoked(run));
}

/**
 * The request of a service account, where it counts: a run that asked has a live pod there, the user who asked started all
 * live pods, and neither the run that asked last nor one that uses the account is revoked. A later run of the same user on
 * the same account has to ask itself.
 */
export function effectiveRequest(account: string, view: RequestView): RoleRequest | undefined {
  const request = isServiceAccountName(account) ? parseRoleRequest(view.accounts.get(account)?.wanted) : undefined;
  const live = view.pods.ofAccount(account);
  if (!request || !hasLiveAsker(request, live) || !allStartedBy(live, request.user.id)) return undefined;
  return view.isRevoked(request.run) || isShutOut(account, view) ? undefined : request;
}

/** Whether release 1.8 may have let the service account in: it carries no annotation, and live pods of one user use it. */
export function mayBeFromEarlierRelease(name: string, view: RequestView): boolean {
  const account = view.accounts.get(name);
  const live = view.pods.ofAccount(name);
  if (!account || account.wanted !== undefined || isShutOut(name, view)) return false;
  return allStartedBy(live, live[0]?.user ?? '');
}

/** Every service account whose request counts, with that request. */
export function effectiveRequests(
  view: RequestView & { accounts: Pick<Watched<ServiceAccount>, 'values'> },
): Map<string, RoleRequest> {
  const found = [...view.accounts.values()].map(({ name }) => [name, effectiveRequest(name, view)] as const);
  return new Map(found.flatMap(([name, request]) => (request ? [[name, request] as const] : [])));
}
