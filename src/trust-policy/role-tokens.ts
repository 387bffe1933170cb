/** Owns the trust policy statements for role tokens: one lets them in, one denies those of revoked runs until they expire. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { subjectLists } from './conditions.ts';
import type { TrustScope } from './document.ts';
import { isObject, type Json, type JsonObject, listOf, statementsOf } from './json.ts';
import { sameSet } from './sets.ts';
import { managedAccount, placeholderSubject, subjectOf } from './subjects.ts';

/** The part for role tokens that a trust policy has, or should have. */
export interface TokenTrust {
  /** `irsa/<role name>`. Any other text gives no statement: a role is never left open. Invariant 12. */
  audience: string;
  /** Whether tokens with this audience are let in. */
  granted: boolean;
  /** Service accounts that hold tokens and may not use them any more. */
  denied: ReadonlySet<string>;
  /** Those of `denied` whose runs an administrator revoked: they are denied before others. */
  revoked?: ReadonlySet<string>;
}

type TokenScope = Pick<TrustScope, 'issuer' | 'providerArn' | 'namespace'>;

/** Statements with these names are managed, however they were changed. IAM accepts each name once. */
const allowSid = 'IrsaRoleTokens';
const denySid = 'IrsaRevokedRoleTokens';
const action = 'sts:AssumeRoleWithWebIdentity';
const audienceForm = /^irsa\/[A-Za-z0-9+=,.@_-]{1,64}$/;

export function sameTokenTrust(a: TokenTrust | undefined, b: TokenTrust | undefined): boolean {
  const [one, other] = [granting(a), granting(b)];
  return one?.audience === other?.audience && sameSet(one?.denied, other?.denied);
}

/** The entries of our statements in a policy, each as one word, for the comparison of documents. */
export function tokenEntries(policy: JsonObject, scope: TokenScope, audience: string): string[] {
  return statementsOf(policy).flatMap((statement) => {
    if (isExact(statement, scope, audience)) return [grantedEntry(audience)];
    if (statement.Sid === allowSid) return isClosed(statement, scope, audience) ? [] : [`${grantedEntry('')}altered`];
    if (statement.Sid !== denySid) return [];
    const names = deniedIn(statement, scope);
    return names ? [...names].map(deniedEntry) : [deniedEntry('altered')];
  });
}

/** The entries of the statements that are wanted. */
export function tokenTrustEntries(trust: TokenTrust | undefined): string[] {
  const granted = granting(trust);
  return granted ? [grantedEntry(granted.audience), ...[...granted.denied].map(deniedEntry)] : [];
}

/** @returns undefined where it needs no statement. */
function granting(trust: TokenTrust | undefined): TokenTrust | undefined {
  return trust?.granted && audienceForm.test(trust.audience) ? trust : undefined;
}

/** The part for role tokens that a policy has now. */
export function tokenTrustIn(policy: JsonObject, scope: TokenScope, audience: string): TokenTrust {
  const statements = statementsOf(policy);
  const denied = statements.flatMap((one) => (one.Sid === denySid ? [...(deniedIn(one, scope) ?? [])] : []));
  return { audience, granted: statements.some((one) => isExact(one, scope, audience)), denied: new Set(denied) };
}

/** The policy with the wanted part for role tokens, and all else unchanged. */
export function withTokenTrust(policy: JsonObject, scope: TokenScope, trust: TokenTrust): JsonObject {
  const { audience } = trust;
  const isGranted = granting(trust) !== undefined;
  const statements = statementsOf(policy);
  const exact = statements.findIndex((one) => isExact(one, scope, audience));
  const named = statements.findIndex(({ Sid: sid }) => sid === allowSid);
  const kept = exact < 0 ? named : exact;
  const deny = statements.findIndex(({ Sid: sid }) => sid === denySid);
  const wanted = statements.flatMap((one, index) => {
    if (index === kept) return isGranted ? [exact < 0 ? allow(scope, audience) : one] : [];
    if (index === deny) return isGranted && trust.denied.size > 0 ? [denied(scope, trust.denied, one)] : [];
    return one.Sid === allowSid || one.Sid === denySid || isExact(one, scope, audience) ? [] : [one];
  });
  if (isGranted && kept < 0) wanted.push(allow(scope, audience));
  if (isGranted && deny < 0 && trust.denied.size > 0) wanted.push(denied(scope, trust.denied));
  // IAM accepts no policy without a statement: the last one stays, for a subject that no token has.
  if (wanted.length === 0) wanted.push(closed(scope, audience));
  if (isDeepStrictEqual(wanted, statements)) return policy;
  const single = !Array.isArray(policy.Statement) && wanted.length === 1;
  return { ...policy, Statement: single ? (wanted[0] as JsonObject) : wanted };
}

/** Denies as many accounts as fit: those of revoked runs, those that are denied already, then the others in the order given. */
export function whoIsDenied(trust: TokenTrust, before: TokenTrust | undefined, fits: (some: TokenTrust) => boolean) {
  const first = trust.denied.intersection(trust.revoked ?? new Set<string>());
  const standing = first.union(trust.denied.intersection(before?.denied ?? new Set<string>()));
  const order = [...standing, ...trust.denied.difference(standing)];
  const some = (count: number): TokenTrust => ({ ...trust, denied: new Set(order.slice(0, count)) });
  // Each account makes the document longer: of thousands, not each number is tried.
  let fitting = 0;
  let most = order.length;
  while (fitting < most) {
    const count = Math.ceil((fitting + most) / 2);
    if (fits(some(count))) fitting = count;
    else most = count - 1;
  }
  return some(fitting);
}

/**
 * Whether a statement lets in role tokens of this audience and nothing else: a run without a token cannot use it, and the
 * API server lets no pod make itself one.
 */
export function letsInRoleTokens(statement: JsonObject, scope: TokenScope, audience: string | undefined): boolean {
  return audience !== undefined && isExact(statement, scope, audience);
}

function allow(scope: TokenScope, audience: string): JsonObject {
  return statementFor(scope, audience, `system:serviceaccount:${scope.namespace}:*`);
}

function closed(scope: TokenScope, audience: string): JsonObject {
  return statementFor(scope, audience, placeholderSubject);
}

function statementFor({ issuer, providerArn }: TokenScope, audience: string, subject: string): JsonObject {
  return {
    Sid: allowSid,
    Effect: 'Allow',
    Principal: { Federated: providerArn },
    Action: action,
    Condition: { StringEquals: { [`${issuer}:aud`]: audience }, StringLike: { [`${issuer}:sub`]: subject } },
  };
}

/** @param before the existing statement: it stays where it means the same. */
function denied(scope: TokenScope, accounts: ReadonlySet<string>, before?: JsonObject): JsonObject {
  const known = before && deniedIn(before, scope);
  if (before && known && sameSet(known, accounts)) return before;
  const subjects = [...accounts].map((account) => deniedSubject(scope.namespace, account)).sort();
  return {
    Sid: denySid,
    Effect: 'Deny',
    Principal: { Federated: scope.providerArn },
    Action: action,
    Condition: { StringLike: { [`${scope.issuer}:sub`]: subjects } },
  };
}

/**
 * The shortest pattern that names a service account. It also matches another cluster's run of this id, and a service account
 * with another name that ends in the id, which belongs to the same run. `*:run-<id>` would be exact, and 15 % fewer would fit.
 */
function deniedSubject(namespace: string, account: string): string {
  const run = /^run-([0-9a-f]{24})$/.exec(account)?.[1];
  return run === undefined ? subjectOf(namespace, account) : `*${run}`;
}

/** The service accounts that our Deny names; undefined where it was altered externally. */
function deniedIn(statement: JsonObject, scope: TokenScope): ReadonlySet<string> | undefined {
  const values = subjectLists(scope.issuer, statement)[0]?.values ?? [];
  const names = values.map((value) => managedAccount(scope.namespace, String(value)));
  if (!names.every((name) => name !== undefined && name !== '')) return undefined;
  const accounts = new Set(names as string[]);
  const expected = {
    ...denied(scope, accounts),
    Condition: { StringLike: { [`${scope.issuer}:sub`]: listOf(values) } },
  };
  return accounts.size > 0 && isDeepStrictEqual(plain(statement), expected) ? accounts : undefined;
}

/** Whether a statement means the same as our Allow, whatever its name: Terraform may have made it. */
function isExact(statement: JsonObject, scope: TokenScope, audience: string): boolean {
  return isDeepStrictEqual({ ...plain(statement), Sid: allowSid }, allow(scope, audience));
}

function isClosed(statement: JsonObject, scope: TokenScope, audience: string): boolean {
  return isDeepStrictEqual(plain(statement), closed(scope, audience));
}

/** Turns lists of one into single values, and a Deny's subjects into lists: IAM accepts both, and tools write either. */
function plain({ Principal: principal, Action: names, Condition: condition, ...rest }: JsonObject): JsonObject {
  const single = (value: Json) => (Array.isArray(value) && value.length === 1 ? (value[0] ?? '') : value);
  const inCondition = rest.Effect === 'Deny' ? (value: Json): Json => listOf(value) : single;
  const each = (block: Json | undefined, change: (value: Json) => Json): Json =>
    isObject(block)
      ? Object.fromEntries(Object.entries(block).map(([key, value]) => [key, change(value)]))
      : (block ?? null);
  const keys = (block: Json) => each(block, inCondition);
  return { ...rest, Principal: each(principal, single), Action: single(names ?? ''), Condition: each(condition, keys) };
}

function grantedEntry(audience: string): string {
  return `role-tokens:${audience}`;
}

function deniedEntry(account: string): string {
  return `role-tokens-denied:${account}`;
}
