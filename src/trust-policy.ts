/** Owns the editing of trust policies: which subjects are ours, and the document that has just the wanted ones. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { managedAccount, placeholderSubject, subjectOf } from './subjects.ts';

/** Whose tokens a trust policy lets in, and how long it may be. */
export interface TrustScope {
  /** The cluster's issuer without a scheme: `oidc.eks.us-west-2.amazonaws.com/id/…`. */
  issuer: string;
  audience: string;
  /** The ARN of that issuer's OIDC provider in IAM. */
  providerArn: string;
  /** The namespace that runs live in. */
  namespace: string;
}

export type Refusal = { kind: 'refused'; code: 'malformed_trust_policy' | 'trust_policy_full'; detail: string };

export type TrustPolicyEdit =
  | { kind: 'unchanged'; document: string; size: number }
  | { kind: 'changed'; document: string; size: number }
  | Refusal;

/** What a document says about us, before any edit. */
export interface TrustPolicyView {
  kind: 'read';
  /** The subjects of ours, as they stand there. */
  subjects: ReadonlySet<string>;
  /** The service accounts that these name, each once. */
  accounts: ReadonlySet<string>;
  /** The characters left for members when those that `keep` names stay; each member takes `memberCost`. */
  room(maxChars: number, keep: (account: string) => boolean): number;
}

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/** Where a statement of ours has its subjects, and what they are. */
interface Adopted {
  statement: JsonObject;
  index: number;
  /** Whether it is new, appended by us. */
  added: boolean;
  foreign: string[];
  managed: string[];
}

/**
 * The size that IAM holds against the quota: characters without white space.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
export function trustPolicySize(document: string): number {
  return document.replace(/\s/gu, '').length;
}

/**
 * Reads what a document says about us.
 * @param text the document as IAM gives it, URL-decoded.
 */
export function readTrustPolicy(scope: TrustScope, text: string): TrustPolicyView | Refusal {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'refused') return parsed;
  const { policy } = parsed;
  const adopted = adopt(scope, policy);
  const accounts = new Set<string>();
  for (const subject of adopted.managed) {
    const account = managedAccount(scope.namespace, subject);
    if (account) accounts.add(account);
  }
  return {
    kind: 'read',
    subjects: new Set(adopted.managed),
    accounts,
    room: (maxChars, keep) => {
      const kept = keptSubjects(scope, adopted, new Set(), keep);
      const list = [...adopted.foreign, ...kept];
      const size = trustPolicySize(JSON.stringify(withSubjects(scope, policy, adopted, list)));
      // The first member of an empty list needs no comma.
      return maxChars - size + (list.length === 0 ? 1 : 0);
    },
  };
}

/**
 * The document in which exactly the given accounts are let in by us, and all that is not ours is as it was.
 * @param text the document as IAM gives it, URL-decoded.
 * @param members service-account names, each of the form that `isServiceAccountName` checks.
 * @param keep whether a managed subject whose account is no member stays nevertheless, in the form that it has.
 * @param maxChars the role's quota in characters.
 * @returns `changed` with the document to write, `unchanged`, or `refused` with a stable code; never throws for a bad
 * document.
 */
export function editTrustPolicy(
  scope: TrustScope,
  text: string,
  members: Iterable<string>,
  keep: (account: string) => boolean,
  maxChars: number,
): TrustPolicyEdit {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'refused') return parsed;
  const { policy } = parsed;
  const adopted = adopt(scope, policy);
  const wanted = new Set(members);
  const ours = [...wanted].map((account) => subjectOf(scope.namespace, account));
  const managed = [...ours, ...keptSubjects(scope, adopted, wanted, keep)].sort();
  const list = [...adopted.foreign, ...managed];
  // Nobody in and no statement of ours: none is added to say so.
  if (list.length === 0 && adopted.added) return unchanged(policy);
  const edited = withSubjects(scope, policy, adopted, list.length > 0 ? list : [placeholderSubject]);
  if (isDeepStrictEqual(edited, policy)) return unchanged(policy);
  const document = JSON.stringify(edited);
  const size = trustPolicySize(document);
  // A document that is too long already may still become shorter.
  if (size > maxChars && size >= trustPolicySize(JSON.stringify(policy))) {
    const detail = `the trust policy would have ${size} characters with ${wanted.size} runs in it, ${maxChars} are allowed`;
    return { kind: 'refused', code: 'trust_policy_full', detail };
  }
  return { kind: 'changed', document, size };
}

function unchanged(policy: JsonObject): TrustPolicyEdit {
  const document = JSON.stringify(policy);
  return { kind: 'unchanged', document, size: trustPolicySize(document) };
}

function keptSubjects(
  scope: TrustScope,
  adopted: Adopted,
  members: ReadonlySet<string>,
  keep: (account: string) => boolean,
): string[] {
  return adopted.managed.filter((subject) => {
    const account = managedAccount(scope.namespace, subject);
    return account !== undefined && account !== '' && !members.has(account) && keep(account);
  });
}

function parsePolicy(text: string): { kind: 'parsed'; policy: JsonObject } | Refusal {
  const refused = (detail: string): Refusal => ({ kind: 'refused', code: 'malformed_trust_policy', detail });
  let policy: Json;
  try {
    policy = JSON.parse(text) as Json;
  } catch {
    return refused('the trust policy is not JSON');
  }
  if (!isObject(policy)) return refused('the trust policy is not a JSON object');
  const { Statement: statement } = policy;
  const statements = Array.isArray(statement) ? statement : [statement];
  if (!statements.every(isObject))
    return refused('the trust policy has no statement, or one that is not a JSON object');
  return { kind: 'parsed', policy };
}

/** The statement that we keep our subjects in, or a new one of ours where none can be adopted. */
function adopt(scope: TrustScope, policy: JsonObject): Adopted {
  const statements = statementsOf(policy);
  for (const [index, statement] of statements.entries()) {
    const subjects = adoptableSubjects(scope, statement);
    if (!subjects) continue;
    const managed = subjects.filter((subject) => managedAccount(scope.namespace, subject) !== undefined);
    const foreign = subjects.filter((subject) => managedAccount(scope.namespace, subject) === undefined);
    return { statement, index, added: false, foreign, managed };
  }
  const statement = {
    Effect: 'Allow',
    Principal: { Federated: scope.providerArn },
    Action: 'sts:AssumeRoleWithWebIdentity',
  };
  return { statement, index: statements.length, added: true, foreign: [], managed: [] };
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
        // Our subjects are patterns; a literal list of somebody else's is not ours to turn into patterns.
        const literal = operator === 'StringEquals';
        if (literal && !values.every((subject) => managedAccount(scope.namespace, subject) !== undefined))
          return undefined;
        subjects.push(...values);
      } else return undefined;
    }
  }
  return subjects;
}

/** The policy with the adopted statement holding just these subjects, `:aud` present, and all else untouched. */
function withSubjects(scope: TrustScope, policy: JsonObject, adopted: Adopted, subjects: string[]): JsonObject {
  const subKey = `${scope.issuer}:sub`;
  const audKey = `${scope.issuer}:aud`;
  const before = isObject(adopted.statement.Condition) ? adopted.statement.Condition : {};
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

  const statement = { ...adopted.statement, Condition: condition };
  const statements = [...statementsOf(policy)];
  statements[adopted.index] = statement;
  const single = !Array.isArray(policy.Statement) && statements.length === 1;
  return { ...policy, Statement: single ? statement : statements };
}

function statementsOf(policy: JsonObject): JsonObject[] {
  const statement = policy.Statement as JsonObject | JsonObject[];
  return Array.isArray(statement) ? statement : [statement];
}

function without(object: JsonObject, key: string): JsonObject {
  return Object.fromEntries(Object.entries(object).filter(([name]) => name !== key));
}

function stringsOf(value: Json | undefined): string[] | undefined {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value as string[];
  return undefined;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
