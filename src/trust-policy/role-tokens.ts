/** Owns the statements of a trust policy that let role tokens in, and keep revoked runs out until theirs expire. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { subjectLists } from './conditions.ts';
import type { TrustScope } from './document.ts';
import { isObject, type Json, type JsonObject, listOf, statementsOf } from './json.ts';
import { managedAccount, placeholderSubject, subjectOf } from './subjects.ts';

/** What role tokens need of a role's trust policy. */
export interface TokenTrust {
  /** `irsa/<role name>`. Any other text gives no statement: a role is never left open. Invariant 12. */
  audience: string;
  /** Whether tokens with this audience are let in. */
  granted: boolean;
  /** Service accounts that hold tokens and may not use them any more. */
  denied: ReadonlySet<string>;
  /** Of these, the ones that an administrator shut out: they are denied before others. */
  revoked?: ReadonlySet<string>;
}

type TokenScope = Pick<TrustScope, 'issuer' | 'providerArn' | 'namespace'>;

/** Statements with these names are ours, whatever somebody made of them. IAM takes each name once. */
const allowSid = 'IrsaRoleTokens';
const denySid = 'IrsaRevokedRoleTokens';
const action = 'sts:AssumeRoleWithWebIdentity';
const audienceForm = /^irsa\/[A-Za-z0-9+=,.@_-]{1,64}$/;

export function sameTokenTrust(a: TokenTrust | undefined, b: TokenTrust | undefined): boolean {
  return isDeepStrictEqual(tokenTrustEntries(a).sort(), tokenTrustEntries(b).sort());
}

/** What stands for a policy's statements of ours where documents are compared, each as one word. */
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
  if (!trust?.granted || !audienceForm.test(trust.audience)) return [];
  return [grantedEntry(trust.audience), ...[...trust.denied].map(deniedEntry)];
}

/** What a policy says of role tokens now. */
export function tokenTrustIn(policy: JsonObject, scope: TokenScope, audience: string): TokenTrust {
  const statements = statementsOf(policy);
  const denied = statements.flatMap((one) => (one.Sid === denySid ? [...(deniedIn(one, scope) ?? [])] : []));
  return { audience, granted: statements.some((one) => isExact(one, scope, audience)), denied: new Set(denied) };
}

/** The policy in which role tokens are let in as wanted, and all else is as it was. */
export function withTokenTrust(policy: JsonObject, scope: TokenScope, trust: TokenTrust): JsonObject {
  const { audience } = trust;
  const isGranted = trust.granted && audienceForm.test(audience);
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
  // IAM takes no policy without a statement: the last one stays, for a subject that no token has.
  if (wanted.length === 0) wanted.push(closed(scope, audience));
  if (isDeepStrictEqual(wanted, statements)) return policy;
  const single = !Array.isArray(policy.Statement) && wanted.length === 1;
  return { ...policy, Statement: single ? (wanted[0] as JsonObject) : wanted };
}

/** Of those to be denied, as many as fit: who was revoked, who is denied already, then the others in the order given. */
export function whoIsDenied(trust: TokenTrust, before: TokenTrust | undefined, fits: (some: TokenTrust) => boolean) {
  const first = trust.denied.intersection(trust.revoked ?? new Set<string>());
  const standing = first.union(trust.denied.intersection(before?.denied ?? new Set<string>()));
  const order = [...standing, ...trust.denied.difference(standing)];
  const some = (count: number): TokenTrust => ({ ...trust, denied: new Set(order.slice(0, count)) });
  // Each one more makes the document longer: thousands are tried neither one by one nor all at once.
  let fitting = 0;
  let most = 1;
  while (most < order.length && fits(some(most))) {
    fitting = most;
    most *= 2;
  }
  most = Math.min(most, order.length);
  while (fitting < most) {
    const count = Math.ceil((fitting + most) / 2);
    if (fits(some(count))) fitting = count;
    else most = count - 1;
  }
  return some(fitting);
}

/**
 * Whether a statement lets in role tokens of this audience and nothing else: it is no way in for a run without a token,
 * and the API server lets no pod make itself one.
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

/** @param before what stands there: it stays where it says the same in other words. */
function denied(scope: TokenScope, accounts: ReadonlySet<string>, before?: JsonObject): JsonObject {
  const known = before && deniedIn(before, scope);
  if (before && known && known.size === accounts.size && known.isSubsetOf(accounts)) return before;
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
 * The shortest pattern that names a service account. It also fits another cluster's run of this id, and an account of another name
 * that ends in the id, of which the run itself is the likely owner. `*:run-<id>` would be exact, and fit 15 % fewer.
 */
function deniedSubject(namespace: string, account: string): string {
  const run = /^run-([0-9a-f]{24})$/.exec(account)?.[1];
  return run === undefined ? subjectOf(namespace, account) : `*${run}`;
}

/** The service accounts that a Deny of ours names; undefined where somebody altered it. */
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

/** Whether it says the same as ours, whatever its name: Terraform may have made it. */
function isExact(statement: JsonObject, scope: TokenScope, audience: string): boolean {
  return isDeepStrictEqual({ ...plain(statement), Sid: allowSid }, allow(scope, audience));
}

function isClosed(statement: JsonObject, scope: TokenScope, audience: string): boolean {
  return isDeepStrictEqual(plain(statement), closed(scope, audience));
}

/** With lists of one as the single value, and a Deny's subjects as lists: IAM takes both, and tools write either. */
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
