/** Owns the removal guard: checks suspicious removals with the API server, past every cache, before a write. Invariant 3. */

import type { Kubernetes } from '../kubernetes/client.ts';
import { KubernetesError } from '../kubernetes/transport.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { organizationConfigMap, parseOrganizations } from '../mappings/organizations.ts';
import { type Mappings, mappingConfigMap, parseMappings } from '../mappings/role-mappings.ts';
import { effectiveRequest, mayBeFromEarlierRelease } from '../runs/effective-request.ts';
import { confirmedPods } from '../runs/runs.ts';
import type { TrustPolicyView } from '../trust-policy/document.ts';
import type { Placements } from './placements.ts';
import type { ProxyRole } from './proxy-role.ts';
import { allowedProxies } from './run-placement.ts';
import { holdsToken } from './token-trusts.ts';

type Reader = Pick<Kubernetes, 'listPods' | 'listServiceAccounts' | 'getServiceAccount' | 'getConfigMap'>;

export interface RemovalGuardDeps {
  placements: Pick<Placements, 'isElsewhere'>;
  /** Whether a subject of ours for a service account without a request stays in the document. */
  keep: (account: string) => boolean;
  /** Whether the cached pods and service accounts may lack live runs: then every removal is checked. */
  isInDoubt: () => boolean;
  /** Of service accounts about to be removed, those that may still belong in the role. */
  stillRequested: (role: ProxyRole, accounts: readonly string[]) => Promise<ReadonlySet<string>>;
  /** Whether an administrator released what the guard has held since then. */
  released: (role: ProxyRole, since: string) => Promise<boolean>;
  clock: Clock;
  log: Log;
}

/**
 * The members that the guard holds. A write that would remove most of a role's members, or any member while the caches
 * may lack live runs, removes only those that the API server confirms.
 */
export async function heldBack(
  deps: RemovalGuardDeps,
  role: ProxyRole,
  view: Pick<TrustPolicyView, 'accounts'>,
): Promise<ReadonlySet<string>> {
  const gone = (account: string) => !role.desired.members.has(account) && !deps.keep(account);
  const dropped = [...view.accounts].filter((account) => gone(account) && !deps.placements.isElsewhere(account, role));
  const few = dropped.length <= 10 || dropped.length * 2 <= view.accounts.size;
  const suspicious = dropped.length > 0 && deps.isInDoubt();
  const { conditions } = role;
  const released = !few && conditions.brake !== undefined && (await deps.released(role, conditions.brake.since));
  const held = (few && !suspicious) || released ? new Set<string>() : await deps.stillRequested(role, dropped);
  // A few held members raise no alarm: they are removed once the caches are complete, or their accounts are deleted.
  if (held.size === 0 || few) return held;
  const since = conditions.brake?.since ?? new Date(deps.clock.now()).toISOString();
  conditions.brake = { since, held: [...held].sort() };
  const about = {
    audit: 'removal_held',
    role: role.arn,
    dropped: dropped.length,
    of: view.accounts.size,
    held: held.size,
  };
  deps.log.warn(about, 'not dropping members that may still have live runs');
  return held;
}

/**
 * Each list is a consistent read: it names no resourceVersion, so the API server does not answer from its cache. An empty
 * list of service accounts is still not trusted, since each namespace has one: the accounts are then fetched one by one,
 * and one that exists counts as in use.
 * @returns which of these accounts still belong in the role; all of them where the API server does not answer.
 */
export async function stillRequested(
  kubernetes: Reader,
  role: string,
  names: readonly string[],
  isRevoked: (run: string) => boolean,
  log: Log,
): Promise<ReadonlySet<string>> {
  let world: Awaited<ReturnType<typeof readWorld>>;
  try {
    world = await readWorld(kubernetes);
  } catch (error) {
    log.warn({ err: error, role }, 'the API server could not be read: removing no members');
    return new Set(names);
  }
  const [pods, accounts, mappings] = world;
  if (pods === undefined || accounts.size === 0) return stillThere(kubernetes, names);
  const view = { accounts, pods, isRevoked };
  const belongs = (name: string) =>
    mayBeFromEarlierRelease(name, view) ||
    effectiveRequest(name, view)?.roles.some((one) => allowedProxies(one, mappings).some(({ arn }) => arn === role));
  return new Set(names.filter(belongs));
}

/**
 * Whether a stored mapping gives the role by tokens, or a live run holds one that works, past every cache; true where the
 * API server does not answer, or its lists are not trusted.
 */
export async function isStillByTokens(
  kubernetes: Reader,
  role: string,
  isRevoked: (run: string) => boolean,
): Promise<boolean> {
  try {
    const [pods, accounts, mappings] = await readWorld(kubernetes);
    if (pods === undefined || accounts.size === 0 || mappings.tokenProxies.has(role)) return true;
    const view = { accounts, pods, isRevoked };
    return [...accounts.keys()].some((name) => holdsToken(effectiveRequest(name, view), role, mappings));
  } catch {
    return true;
  }
}

/** The live pods, the service accounts by name, and the mappings. @throws KubernetesError */
async function readWorld(kubernetes: Reader) {
  const lists = [confirmedPods(kubernetes), kubernetes.listServiceAccounts(), readMappings(kubernetes)] as const;
  const [pods, accounts, mappings] = await Promise.all(lists);
  return [pods, new Map(accounts.map((account) => [account.name, account])), mappings] as const;
}

async function readMappings(kubernetes: Reader): Promise<Mappings> {
  const names = [mappingConfigMap, organizationConfigMap];
  const [mappings, organizations] = await Promise.all(names.map((name) => kubernetes.getConfigMap(name)));
  return parseMappings(mappings?.data ?? {}, parseOrganizations(organizations?.data ?? {}));
}

async function stillThere(kubernetes: Reader, names: readonly string[]): Promise<ReadonlySet<string>> {
  const found = await Promise.all(
    names.map((name) =>
      kubernetes.getServiceAccount(name).then(
        () => true,
        (error: unknown) => !(error instanceof KubernetesError && error.kind === 'not_found'),
      ),
    ),
  );
  return new Set(names.filter((_, index) => found[index]));
}
