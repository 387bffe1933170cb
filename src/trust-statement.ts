/** Owns the statements of a trust policy that hold our subjects: which they are, and how their lists are replaced. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { managedAccount, placeholderSubject } from './subjects.ts';
import type { TrustScope } from './trust-policy.ts';

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** A statement that our subjects are in, or may be. */
interface Held {
  statement: JsonObject;
  index: number;
  foreign: string[];
  managed: string[];
}

/** Where our subjects are in a policy. */
export interface Ours {
  /** The statement that we keep them in. */
  home: Held;
  /** Whether that is new, appended by us. */
  added: boolean;
  /** Others that hold some, which move home: somebody put a statement like ours before it. */
  strays: Held[];
}

/**
 * The first statement that can hold our subjects is their home, unless another one holds them already; where there is
 * none, a new one is.
 */
export function findOurs(scope: TrustScope, policy: JsonObject): Ours {
  const held = statementsOf(policy).flatMap((statement, index): Held[] => {
    const subjects = adoptableSubjects(scope, statement);
    if (!subjects) return [];
    const isOurs = (subject: string) => managedAccount(scope.namespace, subject) !== undefined;
    return [{ statement, index, managed: subjects.filter(isOurs), foreign: subjects.filter((one) => !isOurs(one)) }];
  });
  // Terraform's "" tells nothing: a statement may begin with it that was never ours.
  const inhabited = held.filter(({ managed }) => managed.some((subject) => subject !== ''));
  const home = inhabited[0] ?? held[0];
  if (home) return { home, added: false, strays: inhabited.slice(1) };
  const statement = {
    Effect: 'Allow',
    Principal: { Federated: scope.providerArn },
    Action: 'sts:AssumeRoleWithWebIdentity',
  };
  return { home: { statement, index: statementsOf(policy).length, foreign: [], managed: [] }, added: true, strays: [] };
}

/** The policy with just these subjects at home, none of ours astray, and all else untouched. */
export function withSubjects(scope: TrustScope, policy: JsonObject, ours: Ours, subjects: string[]): JsonObject {
  const statements = [...statementsOf(policy)];
  statements[ours.home.index] = withList(scope, ours.home.statement, subjects);
  for (const { statement, index, foreign } of ours.strays) {
    statements[index] = withList(scope, statement, foreign.length > 0 ? foreign : [placeholderSubject]);
  }
  const single = !Array.isArray(policy.Statement) && statements.length === 1;
  return { ...policy, Statement: single ? (statements[0] as JsonObject) : statements };
}

/**
 * The subjects of a statement that we may keep ours in: an Allow with just our provider as principal, just
 * sts:AssumeRoleWithWebIdentity as action, and no condition but on our issuer's `:sub` and `:aud`.
 * @returns undefined where it is not such a statement.
 */
function adoptableSubjects(scope: TrustScope, statement: JsonObject): string[] | undefined {
  const known = new Set(['Sid', 'Effect', 'Principal', 'Action', 'Condition']);
  if (!Object.keys(statement).every((key) => known.has(key)) || statement.Effect !== 'Allow') return undefined;
  const { Principal: principal, Action: action, Condition: condition = {} } = statement;
  if (!isObject(principal) || Object.keys(principal).length !== 1) return undefined;
  if (!isDeepStrictEqual(stringsOf(principal.Federated), [scope.providerArn])) return undefined;
  const actions = stringsOf(action)?.map((name) => name.toLowerCase());
  if (!isDeepStrictEqual(actions, ['sts:assumerolewithwebidentity'])) return undefined;
  if (!isObject(condition)) return undefined;
  return subjectsOfCondition(scope, condition);
}

function subjectsOfCondition(scope: TrustScope, condition: JsonObject): string[] | undefined {
  const subjects: string[] = [];
  const seen = new Set<string>();
  for (const [operator, keys] of Object.entries(condition)) {
    if ((operator !== 'StringLike' && operator !== 'StringEquals') || !isObject(keys)) return undefined;
    for (const [key, value] of Object.entries(keys)) {
      const values = stringsOf(value);
      // The same key under both operators is ANDed: adding a subject to one of them would let nobody in.
      if (!values || seen.has(key)) return undefined;
      seen.add(key);
      if (key === `${scope.issuer}:aud`) {
        if (values.length > 0 && !values.includes(scope.audience)) return undefined;
      } else if (key === `${scope.issuer}:sub`) {
        if (operator === 'StringLike') subjects.push(...values);
        // Our subjects are patterns: a literal list of somebody else's is not ours to turn into patterns, and one that
        // looks like ours lets nobody in, and goes.
        else if (values.some((subject) => managedAccount(scope.namespace, subject) === undefined)) return undefined;
      } else return undefined;
    }
  }
  return subjects;
}

/** The statement with just these subjects, and `:aud` present. */
function withList(scope: TrustScope, statement: JsonObject, subjects: string[]): JsonObject {
  const subKey = `${scope.issuer}:sub`;
  const audKey = `${scope.issuer}:aud`;
  const before = isObject(statement.Condition) ? statement.Condition : {};
  const equals = without(isObject(before.StringEquals) ? before.StringEquals : {}, subKey);
  const like = without(isObject(before.StringLike) ? before.StringLike : {}, subKey);
  const audience = [equals[audKey], like[audKey]].find(
    (value) => value !== undefined && stringsOf(value)?.length !== 0,
  );
  const condition: JsonObject = { ...before };
  // An empty audience list may mean anybody's: it is replaced, like a missing one.
  const likeNext = audience === undefined ? { ...like, [audKey]: scope.audience } : like;
  const equalsNext = audience === undefined ? without(equals, audKey) : equals;
  condition.StringLike = { ...likeNext, [subKey]: subjects };
  if (Object.keys(equalsNext).length > 0) condition.StringEquals = equalsNext;
  else delete condition.StringEquals;

  return { ...statement, Condition: condition };
}

export function statementsOf(policy: JsonObject): JsonObject[] {
  const statement = policy.Statement as JsonObject | JsonObject[];
  return Array.isArray(statement) ? statement : [statement];
}

function without(object: JsonObject, key: string): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

export function stringsOf(value: Json | undefined): string[] | undefined {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[];
  return undefined;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
