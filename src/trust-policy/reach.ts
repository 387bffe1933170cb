/** Owns which service accounts a trust policy lets in; where the document leaves that open, it counts as yes. Pure. */

import { type Answer, allHold, conditionHolds, loosened, type SubjectList, subjectLists } from './conditions.ts';
import type { TrustScope } from './document.ts';
import { isObject, type Json, type JsonObject, listOf, parsePolicy, statementsOf } from './json.ts';
import { letsInRoleTokens } from './role-tokens.ts';
import { managedAccount } from './subjects.ts';
import { matchesPattern, restsAfter } from './wildcards.ts';

/** An unmanaged subject, or a missing one, that lets in more than one service account of the compute namespace. */
export interface OpenSubject {
  /** The statement's place in the document, from 0. */
  index: number;
  sid: string | undefined;
  /** As the document has it; undefined where the statement has no `:sub` that narrows it. */
  subject: string | undefined;
}

/**
 * Whether a web identity token of this service account may assume the role, whatever its audience: some Allow statement
 * may match, and no Deny certainly does. A document that cannot be parsed counts as letting everyone in.
 * @param text the document as IAM gives it, URL-decoded.
 * @param tokenAudience of the role's own role tokens: their statement is left out, since it lets in no other token.
 */
export function letsIn(scope: TrustScope, text: string, account: string, tokenAudience?: string): boolean {
  const policy = parsePolicy(text);
  if (typeof policy === 'string') return true;
  const allows = statementsOf(policy).filter((one) => !letsInRoleTokens(one, scope, tokenAudience));
  return answers('Allow', allows, scope, account).some((answer) => answer !== 'no') && !denies(scope, text, account);
}

/** Whether a Deny certainly blocks every token of this service account, role tokens too. */
export function denies(scope: TrustScope, text: string, account: string): boolean {
  const policy = parsePolicy(text);
  return typeof policy !== 'string' && answers('Deny', statementsOf(policy), scope, account).includes('yes');
}

function answers(effect: string, statements: readonly JsonObject[], scope: TrustScope, account: string): Answer[] {
  const subject = `system:serviceaccount:${scope.namespace}:${account}`;
  return statements
    .filter((statement) => statement.Effect === effect)
    .map((statement) =>
      allHold([reaches(scope, statement), conditionHolds(scope.issuer, statement.Condition, subject)]),
    );
}

/**
 * The unmanaged subjects that let in more than one service account of the compute namespace: a run that matches one has
 * the role without a mapping, and this service cannot remove it.
 * @param text the document as IAM gives it, URL-decoded; one that cannot be parsed has none.
 */
export function openSubjects(scope: TrustScope, text: string, tokenAudience?: string): OpenSubject[] {
  const policy = parsePolicy(text);
  if (typeof policy === 'string') return [];
  return statementsOf(policy).flatMap((statement, index) => {
    if (statement.Effect !== 'Allow' || reaches(scope, statement) === 'no') return [];
    if (letsInRoleTokens(statement, scope, tokenAudience)) return [];
    if (conditionHolds(scope.issuer, statement.Condition, undefined) === 'no') return [];
    // AWS's documentation contradicts itself about an empty list: it may let everyone in.
    const lists = subjectLists(scope.issuer, statement).filter(({ values }) => values.length > 0);
    const open = lists.map((list) => list.values.map(String).filter((value) => isOpen(scope, list, value)));
    // Lists are ANDed: one without an open subject closes the statement.
    if (open.some((values) => values.length === 0)) return [];
    const sid = typeof statement.Sid === 'string' ? statement.Sid : undefined;
    const subjects = new Set(open.flat());
    return [...(subjects.size > 0 ? subjects : [undefined])].map((subject) => ({ index, sid, subject }));
  });
}

/** Whether a statement is about web identities of our provider, among other principals. */
export function reachesProvider({ providerArn }: TrustScope, { Principal: principal }: JsonObject): Answer {
  if (principal === '*') return 'yes';
  // AWS does not document what NotPrincipal, or a star for one type of principal, means for web identities.
  if (!isObject(principal)) return 'unknown';
  const federated = listOf(principal.Federated);
  if (federated.includes(providerArn)) return 'yes';
  return federated.includes('*') || listOf(principal.AWS).includes('*') ? 'unknown' : 'no';
}

function reaches(scope: TrustScope, statement: JsonObject): Answer {
  const { Action: action, NotAction: notAction } = statement;
  const names = (value: Json | undefined) =>
    listOf(value).some((name) => matchesPattern(String(name).toLowerCase(), 'sts:assumerolewithwebidentity'));
  const isAbout = notAction === undefined ? names(action) : !names(notAction);
  return allHold([reachesProvider(scope, statement), isAbout ? 'yes' : 'no']);
}

function isOpen({ namespace }: TrustScope, { patterns, ignoresCase }: SubjectList, value: string): boolean {
  if (managedAccount(namespace, value) !== undefined || (!patterns && /[*?]/.test(value))) return false;
  const pattern = loosened(ignoresCase ? value.toLowerCase() : value);
  // What remains of the pattern for the account's name: with a wildcard it matches more than one service account.
  return restsAfter(pattern, `system:serviceaccount:${namespace}:`).some(
    (rest) => /^[a-z0-9.*?-]+$/.test(rest) && /[*?]/.test(rest),
  );
}
