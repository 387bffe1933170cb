/** Owns the roles of every account and the history of their trust policies. */
import { createHash } from 'node:crypto';
import type { Clock } from '../../src/lib/clock.ts';

export interface PolicyVersion {
  readonly text: string;
  readonly document: Record<string, unknown>;
  /** Milliseconds since the epoch, by the stand-in's clock. */
  readonly at: number;
  /** The writer: a caller, or `setup` or `outsider` for changes that tests make without a call. */
  readonly by: string;
}

export interface Role {
  readonly account: string;
  readonly name: string;
  readonly path: string;
  readonly arn: string;
  readonly id: string;
  readonly createdAt: number;
  readonly maxSessionSeconds: number;
  readonly unmodifiable: boolean;
  /** The role's own quota in characters, if it has one. */
  readonly quota: number | undefined;
  /** ARN patterns of the roles that it may assume. Where undefined, its inline policies decide; without these, it may assume all. */
  readonly allowAssume: readonly string[] | undefined;
  /** Inline policies by name, as text. */
  readonly inline: Map<string, string>;
  /** Oldest first, at least one. */
  readonly history: PolicyVersion[];
}

export interface NewRole {
  account?: string;
  name: string;
  /** Begins and ends with a slash; `/` by default. */
  path?: string;
  trust: string | object;
  quota?: number;
  unmodifiable?: boolean;
  allowAssume?: readonly string[];
  maxSessionSeconds?: number;
}

export interface RoleStore {
  add(role: NewRole, by: string): Role;
  find(account: string, name: string): Role | undefined;
  findArn(arn: string): Role | undefined;
  remove(role: Role): void;
  inAccount(account: string): Role[];
  write(role: Role, trust: string | object, by: string): void;
  /** The document as a reader sees it that lags `lagMs` behind the writes; undefined when even the role is newer. */
  seen(role: Role, lagMs: number): PolicyVersion | undefined;
}

export function createRoleStore(clock: Clock, partition: string, homeAccount: string): RoleStore {
  const roles = new Map<string, Role>();
  const version = (trust: string | object, by: string): PolicyVersion => {
    const text = typeof trust === 'string' ? trust : JSON.stringify(trust);
    return { text, document: JSON.parse(text) as Record<string, unknown>, at: clock.now(), by };
  };
  return {
    add(wanted, by) {
      const { account = homeAccount, name, path = '/' } = wanted;
      const arn = `arn:${partition}:iam::${account}:role${path}${name}`;
      const role: Role = {
        account,
        name,
        path,
        arn,
        id: `AROA${createHash('sha256').update(arn).digest('hex').slice(0, 17).toUpperCase()}`,
        createdAt: clock.now(),
        maxSessionSeconds: wanted.maxSessionSeconds ?? 3600,
        unmodifiable: wanted.unmodifiable ?? false,
        quota: wanted.quota,
        allowAssume: wanted.allowAssume,
        inline: new Map(),
        history: [version(wanted.trust, by)],
      };
      roles.set(`${account}/${name}`, role);
      return role;
    },
    find: (account, name) => roles.get(`${account}/${name}`),
    findArn: (arn) => {
      const [account, name] = [arn.split(':')[4], arn.split('/').at(-1)];
      const role = roles.get(`${account}/${name}`);
      return role?.arn === arn ? role : undefined;
    },
    remove: (role) => void roles.delete(`${role.account}/${role.name}`),
    inAccount: (account) => [...roles.values()].filter((role) => role.account === account),
    write: (role, trust, by) => void role.history.push(version(trust, by)),
    seen: (role, lagMs) =>
      role.history.findLast(({ at, by }) => by === SETUP || at + lagMs <= clock.now()) ??
      (lagMs === 0 ? role.history.at(-1) : undefined),
  };
}

/** Roles that a test sets up are old: every reader sees them at once. */
export const SETUP = 'setup';
