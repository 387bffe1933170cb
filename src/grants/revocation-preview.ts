/** Owns the preview of a revocation: which roles the run would lose, and which other runs would lose theirs with it. */

import { rolesByToken } from '../runs/held-tokens.ts';
import type { RevokedTokens } from '../runs/revocations.ts';
import { parseRoleRequest, type RequestedRole } from '../runs/role-request.ts';
import { heldBy, type RunRemovalDeps, unpublishedWaysOf, waysOf } from './run-removal.ts';

/** @param run 24 hex digits. @param names its service accounts. @param revoked the tokens on record of an earlier revocation. */
export async function previewRevocation(
  run: string,
  names: readonly string[],
  deps: RunRemovalDeps,
  revoked?: RevokedTokens,
) {
  const { accounts, mappings, pods, statuses } = deps;
  const user = pods.ofRun(run).find(({ userName }) => userName !== undefined)?.userName;
  const loses = names.flatMap((name) => {
    const request = parseRoleRequest(accounts.get(name)?.wanted);
    if (!request) return [];
    const isIn = (arn: string) => Object.hasOwn(statuses.get(arn)?.status.members ?? {}, name);
    // What is kept elsewhere takes tokens as its owner says.
    const { tokenProxies, unmanagedProxies } = mappings.current();
    const takesTokens = (arn: string) =>
      statuses.get(arn)?.status.tokens?.granted === true || (tokenProxies.has(arn) && unmanagedProxies.has(arn));
    const pairs = [
      ...pairsOf(request.roles, isIn),
      ...pairsOf(rolesByToken(request), (arn) => takesTokens(arn) && !isIn(arn)),
    ];
    const whose = { service_account: name, run_id: request.run, user: request.user.name };
    return pairs.map((pair) => ({ ...whose, ...pair }));
  });
  const sharing = names.flatMap((name) => pods.ofAccount(name)).filter(({ run: other }) => other !== run);
  const others = new Map(sharing.flatMap((pod) => (pod.run === undefined ? [] : [[pod.run, pod.userName] as const])));
  const held = heldBy(names, deps, revoked);
  const ways = [...waysOf(names, deps, held), ...(await unpublishedWaysOf(held, deps))];
  return {
    user,
    service_accounts: names,
    loses,
    shut_out_too: [...others].map(([id, name]) => ({ run_id: id, user: name })),
    // Roles from which the leader can remove the run are left out.
    stays_in: ways.filter(({ code }) => code !== 'pending'),
  };
}

function pairsOf(roles: readonly RequestedRole[], has: (proxy: string) => boolean) {
  return roles.flatMap(({ target, proxies }) =>
    proxies.flatMap(({ arn }) => (has(arn) ? { iam_role_arn: target, proxy_iam_role_arn: arn } : [])),
  );
}
