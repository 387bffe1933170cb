/** Owns what this replica knows of any user, without a call to Domino: ids, live runs, role requests and organizations. */
import type { Pod, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Organizations } from '../mappings/organizations.ts';
import { parseRoleRequest, type RoleRequest } from '../runs/role-request.ts';
import type { PodIndex } from '../runs/runs.ts';

/** What Domino said when a user called this replica, and when that was. */
export interface SeenUser {
  caller: Organizations & { readonly id: string; readonly name: string };
  at: string;
}

export interface KnownUserDeps {
  accounts: Pick<Watched<ServiceAccount>, 'values'>;
  pods: Pick<PodIndex, 'all'>;
  /** Finds callers by id or name, the newest first. */
  seenCallers: { find(user: string): SeenUser[] };
}

export interface KnownUser {
  id: string;
  name: string;
  /** Other ids that are known with the same name. */
  otherIds: string[];
  /** The user's live pods. */
  pods: Pod[];
  /** The newest role request. */
  request: RoleRequest | undefined;
  seen: SeenUser | undefined;
}

/** How many role requests of one user are read at most: these are enough to know the user. */
const mostRequests = 200;

/** @param user an id or a name. @returns undefined where nothing is known of such a user. */
export function knownUser(user: string, deps: KnownUserDeps): KnownUser | undefined {
  const pods = [...deps.pods.all()].filter((pod) => pod.user === user || pod.userName === user);
  const requests = requestsOf(user, deps);
  const seen = deps.seenCallers.find(user);
  // The newest source first: the name may have passed to another person since.
  const ids = new Set([
    ...seen.map(({ caller }) => caller.id),
    ...requests.map((one) => one.user.id),
    ...pods.toSorted(byRun).flatMap((pod) => pod.user ?? []),
  ]);
  const id = ids.has(user) ? user : [...ids][0];
  if (id === undefined) return undefined;
  const own = {
    pods: pods.filter((pod) => pod.user === id),
    request: requests.find((one) => one.user.id === id),
    seen: seen.find(({ caller }) => caller.id === id),
  };
  const name = own.seen?.caller.name ?? own.request?.user.name ?? own.pods.find((pod) => pod.userName)?.userName ?? id;
  return { id, name, otherIds: id === user ? [] : [...ids].filter((one) => one !== id), ...own };
}

/** The newest first. The text is searched before it is parsed: there is one for each live run of the cluster. */
function requestsOf(user: string, { accounts }: KnownUserDeps): RoleRequest[] {
  const quoted = JSON.stringify(user);
  const texts = [...accounts.values()].flatMap(({ wanted }) => (wanted?.includes(quoted) ? wanted : []));
  const requests = texts.slice(0, mostRequests).flatMap((text) => parseRoleRequest(text) ?? []);
  return requests
    .filter((one) => one.user.id === user || one.user.name === user)
    .sort((a, b) => (a.at < b.at ? 1 : -1));
}

/** A run's id begins with its time: the newest first. */
function byRun(a: Pod, b: Pod): number {
  return (a.run ?? '') < (b.run ?? '') ? 1 : -1;
}

export interface KnownMembership extends Organizations {
  known: { known_from: 'domino' | 'activity' | 'role_request' | 'nothing'; at?: string };
}

/** The user's organizations in the activity record. */
export interface RecordedOrganizations {
  at: string;
  organizations: readonly { name: string; id?: string | undefined }[];
}

/** A call for roles is recorded when it is answered, up to a minute after Domino was asked. */
const sameCallMs = 60_000;

/** The organizations of the user by Domino's newest answer, or else those of the role request. */
export function knownMembership(
  { seen, request }: Pick<KnownUser, 'seen' | 'request'>,
  recorded: RecordedOrganizations | undefined,
): KnownMembership {
  if (seen && !(recorded && Date.parse(recorded.at) > Date.parse(seen.at) + sameCallMs)) {
    const { orgs, organizationIds } = seen.caller;
    return { orgs, organizationIds, known: { known_from: 'domino', at: seen.at } };
  }
  if (recorded) return { ...namedOnce(recorded.organizations), known: { known_from: 'activity', at: recorded.at } };
  if (!request) return { orgs: [], organizationIds: new Map(), known: { known_from: 'nothing' } };
  const proxies = request.roles.flatMap((role) => role.proxies);
  const found = proxies.map(({ org, org_id }) => ({ name: org, id: org_id }));
  return { ...namedOnce(found), known: { known_from: 'role_request', at: request.at } };
}

function namedOnce(found: RecordedOrganizations['organizations']): Organizations {
  const byName = Map.groupBy(found, ({ name }) => name);
  const ids = [...byName].map(([name, list]) => [name, [...new Set(list.flatMap(({ id }) => id ?? []))]] as const);
  return { orgs: [...byName.keys()].sort(), organizationIds: new Map(ids) };
}
