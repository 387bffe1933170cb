/** Owns a small cluster of plain objects for tests of placements: service accounts, pods, mappings, and roles with capacity. */

import type { Pod, ServiceAccount } from '../../src/kubernetes/client.ts';
import { parseMappings } from '../../src/mappings/role-mappings.ts';
import { type Change, Placements } from '../../src/proxy-roles/placements.ts';
import type { ProxyRole } from '../../src/proxy-roles/proxy-role.ts';
import type { RoleRequest } from '../../src/runs/role-request.ts';
import { memberCost } from '../../src/trust-policy/subjects.ts';

export const namespace = 'domino-compute';
const unnamed = { userName: undefined, workload: undefined, uid: '', hasPodIdentity: false };
export const proxyArn = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
export const targetArn = (name: string) => `arn:aws:iam::222222222222:role/${name}`;

/** Target role -> its proxy roles by name, in the order of the mapping. */
export type Pools = Record<string, string[]>;

export interface AskOptions {
  /** The run's 24 hex digits; by default a run of this account alone. */
  run?: string;
  user?: string;
  /** The roles of the request; by default all that the mappings name. */
  pools?: Pools;
  org?: string;
}

export interface SmallCluster {
  placements: Placements;
  /** The calls of onChange, as `<change> <role>`. */
  changes: string[];
  /** Milliseconds on the monotonic clock. */
  elapsed: number;
  /** The revoked runs; `placements.all()` applies a change. */
  revoked: Set<string>;
  /** Replaces the mappings of organization `acme`, and notifies. @param foreign proxy roles that the service does not manage. */
  map(pools: Pools, foreign?: readonly string[]): void;
  /** Replaces the live pods of an account: one for each user. */
  pods(account: string, ...users: (string | undefined)[]): void;
  /** Replaces the live pods of an account: one for each run, of one user. */
  podsOfRuns(account: string, user: string, ...runs: string[]): void;
  /** Records a role request on the account, as a replica does. @returns its id. */
  ask(account: string, options?: AskOptions): string;
  /** Sets the text of the account's annotation. */
  annotate(account: string, wanted: string | undefined): void;
  /** Starts a pod and records a request, by default for a user of this account alone. @returns the request's id. */
  start(account: string, options?: AskOptions): string;
  remove(account: string): void;
  role(name: string): ProxyRole;
  members(name: string): string[];
  /** The role's refusals, as `<account> <code>`. */
  refused(name: string): string[];
  /** Gives a role capacity for this many accounts with names of one letter. */
  capacity(name: string, accounts: number): void;
  /** Reports that IAM has accepted all members of these roles, each role a second after the one before. */
  accept(...names: string[]): void;
  /** Keeps the role from adding members for this many milliseconds. */
  fail(name: string, ms: number): void;
  requestOf(account: string): RoleRequest | undefined;
  usersOf(account: string): (string | undefined)[];
}

export function smallCluster(): SmallCluster {
  const accounts = new Map<string, ServiceAccount>();
  const podsOf = new Map<string, Pod[]>();
  const wants = new Map<string, RoleRequest>();
  const revoked = new Set<string>();
  let data: Record<string, string> = {};
  let pools: Pools = {};
  let mappings = parseMappings(data);
  let asked = 0;
  let accepted = 0;
  const nextTime = (count: number) => new Date(Date.UTC(2026, 10, 21) + count * 1000).toISOString();

  const cluster: SmallCluster = {
    placements: new Placements({
      accounts: { get: (name) => accounts.get(name), values: () => accounts.values() },
      // By default, the pods belong to the run with the newest request.
      pods: {
        ofAccount: (name) =>
          (podsOf.get(name) ?? []).map((pod) => ({ ...pod, run: pod.run ?? wants.get(name)?.run ?? runOf(name) })),
      },
      mappings: () => mappings,
      isRevoked: (run) => revoked.has(run),
      computeNamespace: namespace,
      maxChars: 2048,
      monotonic: () => cluster.elapsed,
      onChange: (role: ProxyRole, change: Change) => {
        cluster.changes.push(`${change} ${role.arn.slice(role.arn.lastIndexOf('/') + 1)}`);
      },
    }),
    changes: [],
    elapsed: 0,
    revoked,
    map: (next, foreign = []) => {
      pools = next;
      const list = Object.entries(next).flatMap(([target, proxies]) =>
        proxies.map((proxy) => ({
          iam_role_arn: targetArn(target),
          proxy_iam_role_arn: proxyArn(proxy),
          update_iam_role_trust_policy: !foreign.includes(proxy),
        })),
      );
      data = { acme: JSON.stringify(list) };
      mappings = parseMappings(data);
      cluster.placements.all();
    },
    pods: (account, ...users) => {
      podsOf.set(
        account,
        users.map((user, index) => ({
          name: `${account}-${index}`,
          run: undefined,
          account,
          user,
          ...unnamed,
          live: true,
        })),
      );
      if (!accounts.has(account)) {
        accounts.set(account, {
          name: account,
          resourceVersion: '1',
          wanted: undefined,
          ours: false,
          madeFor: undefined,
        });
      }
      cluster.placements.account(account);
    },
    podsOfRuns: (account, user, ...runs) => {
      podsOf.set(
        account,
        runs.map((run, index) => ({ name: `${account}-${index}`, run, account, user, ...unnamed, live: true })),
      );
      cluster.placements.account(account);
    },
    ask: (account, { run = runOf(account), user = `user-${account}`, pools: wanted = pools, org = 'acme' } = {}) => {
      asked += 1;
      const request: RoleRequest = {
        id: `want-${asked}`,
        run,
        user: { id: user, name: user },
        at: nextTime(asked),
        roles: Object.entries(wanted).map(([target, proxies]) => ({
          target: targetArn(target),
          proxies: proxies.map((proxy) => ({ arn: proxyArn(proxy), org })),
        })),
      };
      cluster.annotate(account, JSON.stringify(request));
      return request.id;
    },
    annotate: (account, wanted) => {
      accounts.set(account, { name: account, resourceVersion: '1', wanted, ours: false, madeFor: undefined });
      if (wanted?.includes('"run"')) wants.set(account, JSON.parse(wanted) as RoleRequest);
      else wants.delete(account);
      cluster.placements.account(account);
    },
    start: (account, options = {}) => {
      cluster.pods(account, options.user ?? `user-${account}`);
      return cluster.ask(account, options);
    },
    remove: (account) => {
      accounts.delete(account);
      wants.delete(account);
      cluster.placements.account(account);
    },
    role: (name) => cluster.placements.role(proxyArn(name)),
    members: (name) => [...cluster.role(name).desired.members.keys()].sort(),
    refused: (name) => cluster.role(name).conditions.refused.map(({ account, code }) => `${account} ${code}`),
    capacity: (name, count) => cluster.placements.setCapacity(cluster.role(name), count * memberCost(namespace, 'a')),
    accept: (...names) => {
      for (const name of names) {
        const role = cluster.role(name);
        const before = role.observed.members;
        role.observed.members = new Map(
          [...role.desired.members].map(([account, want]) => {
            accepted += 1;
            return [account, { want, since: before.get(account)?.since ?? nextTime(accepted) }];
          }),
        );
      }
    },
    fail: (name, ms) => {
      const role = cluster.role(name);
      role.conditions.error = {
        code: 'role_not_found',
        detail: `no role ${name}`,
        at: nextTime(0),
        until: cluster.elapsed + ms,
      };
      cluster.placements.reconsider(role);
    },
    requestOf: (account) => wants.get(account),
    usersOf: (account) => (podsOf.get(account) ?? []).map(({ user }) => user),
  };
  return cluster;
}

function runOf(account: string): string {
  return Buffer.from(account).toString('hex').padStart(24, '0').slice(-24);
}
