/** Owns the trust policy statements that have our subjects: finds them, and replaces their lists. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { isKey, subjectLists } from './conditions.ts';
import type { TrustScope } from './document.ts';
import { isObject, type Json, type JsonObject, listOf, statementsOf, stringsOf } from './json.ts';
import { reachesProvider } from './reach.ts';
import { managedAccount, placeholderSubject } from './subjects.ts';

/** A statement whose list may hold our subjects: it lets in the subjects of its list, for our audience, on no other condition. */
interface Held {
  statement: JsonObject;
  index: number;
  foreign: string[];
  managed: string[];
  /** Whether it has the form that we write. Otherwise actions or principals were added, which does not affect our subjects. */
  plain: boolean;
}

/** Where our subjects are in a policy. */
export interface Ours {
  /** The statement that we keep them in. */
  home: Held;
  /** Whether the policy lacks that statement so far. */
  isNew: boolean;
  /** Whether no other statement could be home, so that it is found again when no subject of ours is in it. */
  isAlone: boolean;
  /** Every other Allow for our provider that has a subject of ours. */
  strays: { statement: JsonObject; index: number }[];
}

/**
 * Finds the home of our subjects: the first statement that has some and lets them in as ours does; else the first plain
 * one; else a new one. From the second altered statement of ours on, the new one replaces an altered one that has nothing
 * but the placeholder left: otherwise a tool that alters each statement of ours would fill the document.
 */
export function findOurs(scope: TrustScope, policy: JsonObject): Ours {
  const statements = statementsOf(policy);
  const held = statements.flatMap((statement, index) => holding(scope, statement, index) ?? []);
  const plain = held.filter((one) => one.plain);
  // Terraform's "" proves nothing: a statement that was never ours may begin with it.
  const home =
    held.find(({ managed }) => managed.some((subject) => subject !== '')) ?? plain[0] ?? fresh(scope, policy);
  return {
    home,
    isNew: !held.includes(home),
    isAlone: held.length === 1 && plain.length === 1,
    strays: statements.flatMap((statement, index) => {
      const isStray = index !== home.index && subjectsIn(scope, statement).some(({ account }) => account !== '');
      return isStray ? [{ statement, index }] : [];
    }),
  };
}

/**
 * The policy with exactly these subjects in home, no subject of ours elsewhere except those that stay, and all else unchanged.
 * @param subjects undefined: home is left as it is.
 */
export function withSubjects(
  scope: TrustScope,
  policy: JsonObject,
  { home, strays }: Ours,
  subjects: string[] | undefined,
  stays: (subject: string) => boolean,
): JsonObject {
  const statements = [...statementsOf(policy)];
  for (const { statement, index } of strays) statements[index] = withoutOurs(scope, statement, stays);
  if (subjects) statements[home.index] = withList(scope, home.statement, subjects);
  const single = !Array.isArray(policy.Statement) && statements.length === 1;
  return { ...policy, Statement: single ? (statements[0] as JsonObject) : statements };
}

/** Every subject of ours in an Allow for our provider, whatever its operator and the other conditions. */
export function subjectsIn(
  scope: TrustScope,
  statement: JsonObject,
): { subject: string; account: string; patterns: boolean }[] {
  if (statement.Effect !== 'Allow' || reachesProvider(scope, statement) === 'no') return [];
  return subjectLists(scope.issuer, statement).flatMap(({ values, patterns }) =>
    values.flatMap((subject) => {
      const account = typeof subject === 'string' ? managedAccount(scope.namespace, subject) : undefined;
      return account === undefined ? [] : [{ subject: subject as string, account, patterns }];
    }),
  );
}

/** A new home, where there is none yet. */
function fresh(scope: TrustScope, policy: JsonObject): Held {
  const statements = statementsOf(policy);
  const altered = statements.flatMap((statement, index) => {
    const subjects = subjectsIn(scope, statement).filter(({ subject }) => subject !== '');
    return subjects.length > 0 ? [{ statement, index }] : [];
  });
  const empty = altered.length > 1 ? altered.find(({ statement }) => letsNobodyIn(scope, statement)) : undefined;
  const { Sid: sid } = empty?.statement ?? {};
  const statement = {
    ...(sid === undefined ? {} : { Sid: sid }),
    Effect: 'Allow',
    Principal: { Federated: scope.providerArn },
    Action: 'sts:AssumeRoleWithWebIdentity',
  };
  return { statement, index: empty?.index ?? statements.length, foreign: [], managed: [], plain: true };
}

/** Whether a statement has no subject but the placeholder, and no token of another provider passes because it lacks `:sub`. */
function letsNobodyIn(scope: TrustScope, statement: JsonObject): boolean {
  const { Principal: principal } = statement;
  const isOurs = isObject(principal) && isDeepStrictEqual(Object.values(principal).flat(), [scope.providerArn]);
  const lists = subjectLists(scope.issuer, statement);
  const isEmpty = lists.every(({ values }) => values.every((value) => value === placeholderSubject));
  return isEmpty && lists.some(({ absent, values }) => values.length > 0 && (isOurs || absent === 'no'));
}

/**
 * The subjects of a statement that may hold ours: an Allow with our provider as principal, with
 * sts:AssumeRoleWithWebIdentity as action, and with no condition but on our issuer's `:sub` and `:aud`.
 * @returns undefined where it is not such a statement.
 */
function holding(scope: TrustScope, statement: JsonObject, index: number): Held | undefined {
  const known = new Set(['Sid', 'Effect', 'Principal', 'Action', 'Condition']);
  if (!Object.keys(statement).every((key) => known.has(key)) || statement.Effect !== 'Allow') return undefined;
  const { Principal: principal, Action: action, Condition: condition = {} } = statement;
  if (!isObject(principal) || !isObject(condition)) return undefined;
  const providers = stringsOf(principal.Federated);
  const actions = stringsOf(action)?.map((name) => name.toLowerCase());
  if (!providers?.includes(scope.providerArn) || !actions?.includes('sts:assumerolewithwebidentity')) return undefined;
  const plain = providers.length === 1 && actions.length === 1 && Object.keys(principal).length === 1;
  const found = readCondition(scope, condition);
  if (!found) return undefined;
  const isOurs = (subject: string) => managedAccount(scope.namespace, subject) !== undefined;
  const foreign = found.subjects.filter((subject) => !isOurs(subject));
  // Adding our audience would change what the statement means for its unmanaged subjects and principals.
  if (!found.hasAudience && (foreign.length > 0 || !plain)) return undefined;
  return { statement, index, plain, foreign, managed: found.subjects.filter(isOurs) };
}

function readCondition(
  scope: TrustScope,
  condition: JsonObject,
): { subjects: string[]; hasAudience: boolean } | undefined {
  const subjects: string[] = [];
  let hasAudience = false;
  const seen = new Set<string>();
  for (const [operator, keys] of Object.entries(condition)) {
    if ((operator !== 'StringLike' && operator !== 'StringEquals') || !isObject(keys)) return undefined;
    for (const [key, value] of Object.entries(keys)) {
      const values = stringsOf(value);
      // The same key under both operators is ANDed: adding a subject to one of them would let nobody in.
      if (!values || seen.has(key.toLowerCase())) return undefined;
      seen.add(key.toLowerCase());
      if (isKey(key, `${scope.issuer}:aud`)) {
        hasAudience = values.length > 0;
        if (hasAudience && !values.includes(scope.audience)) return undefined;
        // A pattern would accept tokens that are meant for other services.
        if (values.some((audience) => /[*?]|\$\{/.test(audience))) return undefined;
      } else if (isKey(key, `${scope.issuer}:sub`)) {
        if (operator === 'StringLike') subjects.push(...values);
        // Our subjects are patterns: an owner's literal list must not become one. A literal that looks like a subject
        // of ours lets nobody in, and is removed.
        else if (values.some((subject) => managedAccount(scope.namespace, subject) === undefined)) return undefined;
      } else return undefined;
    }
  }
  return { subjects, hasAudience };
}

/** The statement with just these subjects, and `:aud` present. */
function withList(scope: TrustScope, statement: JsonObject, subjects: string[]): JsonObject {
  const [subKey, audKey] = [`${scope.issuer}:sub`, `${scope.issuer}:aud`];
  const {
    StringEquals: equals,
    StringLike: like,
    ...others
  } = isObject(statement.Condition) ? statement.Condition : {};
  // An empty audience list may mean any audience: it is replaced, like a missing one.
  const kept = (keys: Json | undefined) =>
    Object.entries(isObject(keys) ? keys : {}).filter(([key, value]) => isKey(key, audKey) && listOf(value).length > 0);
  const [literal, patterns] = [kept(equals), kept(like)];
  const audience = literal.length + patterns.length > 0 ? patterns : [[audKey, scope.audience] as const];
  const condition: JsonObject = {
    ...others,
    ...(literal.length > 0 ? { StringEquals: Object.fromEntries(literal) } : {}),
    StringLike: { ...Object.fromEntries(audience), [subKey]: subjects },
  };
  return { ...statement, Condition: condition };
}

/** The statement without our subjects, except those that stay; a list that would be empty gets the placeholder. */
function withoutOurs(scope: TrustScope, statement: JsonObject, stays: (subject: string) => boolean): JsonObject {
  const leaves = (value: Json) =>
    typeof value === 'string' && !!managedAccount(scope.namespace, value) && !stays(value);
  const condition = { ...(statement.Condition as JsonObject) };
  for (const { operator, key, values } of subjectLists(scope.issuer, statement)) {
    if (!values.some(leaves)) continue;
    const left = values.filter((value) => !leaves(value));
    condition[operator] = {
      ...(condition[operator] as JsonObject),
      [key]: left.length > 0 ? left : [placeholderSubject],
    };
  }
  return { ...statement, Condition: condition };
}
