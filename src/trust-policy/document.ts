/** Owns editing trust policies: finds what this service manages in a document, and makes the document that is desired. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { type JsonObject, parsePolicy, writePolicy } from './json.ts';
import { type PodTrust, podEntries, withPodTrust } from './pod-identity.ts';
import { type BesidePods, besidePods } from './pod-identity-unmanaged.ts';
import { type TokenTrust, tokenEntries, tokenTrustIn, withTokenTrust } from './role-tokens.ts';
import { managedAccount, placeholderSubject, subjectOf } from './subjects.ts';
import { findOurs, type Ours, subjectsIn, withSubjects } from './web-identity.ts';

/** The cluster and the namespace whose pods a trust policy lets in. */
export interface TrustScope {
  /** The cluster's issuer without a scheme: `oidc.eks.us-west-2.amazonaws.com/id/…`. */
  issuer: string;
  audience: string;
  /** The ARN of that issuer's OIDC provider in IAM. */
  providerArn: string;
  /** The namespace that runs live in. */
  namespace: string;
  /** The ARN of the EKS cluster, where Pod Identity is used: pods of other clusters are not let in. */
  cluster?: string | undefined;
}

/** The parts of a document that this service manages. */
export interface TrustParts {
  /** Whether the subjects of web identity are managed: a mapping of an organization names the role. */
  members: boolean;
  /** The service accounts of EKS Pod Identity; undefined: no Pod Identity mapping names the role. */
  pods?: PodTrust | undefined;
  /** The part for role tokens; undefined: no mapping gives the role by tokens, and none did. */
  tokens?: TokenTrust | undefined;
}

export type Refusal = { kind: 'refused'; code: 'malformed_trust_policy' | 'trust_policy_full'; detail: string };

export type TrustPolicyEdit =
  | { kind: 'unchanged'; document: string; size: number }
  | { kind: 'changed'; document: string; size: number }
  | Refusal;

/** What a document has of ours, before any edit. */
export interface TrustPolicyView {
  kind: 'read';
  /** Our subjects in any statement, and the entries of EKS Pod Identity and role tokens, as the document has them. */
  subjects: ReadonlySet<string>;
  /** The service accounts that our subjects may let in: a condition that was added externally may still exclude some. */
  accounts: ReadonlySet<string>;
  /** What unmanaged statements mean for EKS Pod Identity; undefined where its part is not managed. */
  beside: BesidePods | undefined;
  /** The part for role tokens; undefined where it is not managed. */
  tokens: TokenTrust | undefined;
  /** Those of `accounts` that our statement lets in, on no condition but their subject and our audience. */
  settled: ReadonlySet<string>;
  /** The characters available for members beside the accounts that `keep` retains; each member takes `memberCost`. */
  room(maxChars: number, keep: (account: string) => boolean): number;
}

/**
 * The size that IAM holds against the quota: characters without white space.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
 */
export function trustPolicySize(document: string): number {
  return document.replace(/\s/gu, '').length;
}

/**
 * Reads what a document has of ours.
 * @param text the document as IAM gives it, URL-decoded.
 * @param parts its managed parts, as desired; `room` is what these leave for members.
 */
export function readTrustPolicy(
  scope: TrustScope,
  text: string,
  parts: TrustParts = { members: true },
): TrustPolicyView | Refusal {
  const parsed = parsePolicy(text);
  if (typeof parsed === 'string') return malformed(parsed);
  const entries = parts.pods ? podEntries(parsed, scope) : [];
  if (parts.tokens) entries.push(...tokenEntries(parsed, scope, parts.tokens.audience));
  const policy = withOtherParts(parsed, scope, parts);
  const ours = findOurs(scope, policy);
  const subjects = parts.members ? managedSubjects(scope, ours) : new Set<string>();
  return {
    kind: 'read',
    subjects: new Set([...subjects, ...entries]),
    accounts: accountsOf(scope, subjects),
    settled: accountsOf(scope, parts.members ? ours.home.managed : []),
    beside: parts.pods && besidePods(parsed, scope, parts.pods),
    tokens: parts.tokens && tokenTrustIn(parsed, scope, parts.tokens.audience),
    room: (maxChars, keep) => {
      const stays = staying(scope, new Set(), keep);
      const list = [...ours.home.foreign, ...new Set(ours.home.managed.filter(stays))];
      const size = trustPolicySize(writePolicy(withSubjects(scope, policy, ours, list, stays)));
      // The first member of an empty list needs no comma.
      return maxChars - size + (list.length === 0 ? 1 : 0);
    },
  };
}

/**
 * Makes the document in which our subjects let in exactly the given accounts, and everything unmanaged is unchanged.
 * @param text the document as IAM gives it, URL-decoded.
 * @param members service-account names, each of the form that `isServiceAccountName` checks; undefined where web
 * identity's part is not managed.
 * @param keep whether a managed subject whose account is no member stays nevertheless, in the form that it has.
 * @param maxChars the role's quota in characters.
 * @param pods the service accounts of EKS Pod Identity; undefined where that part is not managed.
 * @param tokens the part for role tokens; undefined where it is not managed.
 * @returns `changed` with the document to write, `unchanged`, or `refused` with a stable code; never throws for a bad
 * document.
 */
export function editTrustPolicy(
  scope: TrustScope,
  text: string,
  members: Iterable<string> | undefined,
  keep: (account: string) => boolean,
  maxChars: number,
  pods?: PodTrust,
  tokens?: TokenTrust,
): TrustPolicyEdit {
  const policy = parsePolicy(text);
  if (typeof policy === 'string') return malformed(policy);
  const wanted = new Set(members);
  const others = withOtherParts(policy, scope, { pods, tokens });
  const edited = members ? withMembers(scope, others, wanted, keep) : others;
  const before = writePolicy(policy);
  if (isDeepStrictEqual(edited, policy)) return { kind: 'unchanged', document: before, size: trustPolicySize(before) };
  const document = writePolicy(edited);
  const size = trustPolicySize(document);
  // A document that is too long already may still become shorter.
  if (size > maxChars && size >= trustPolicySize(before)) {
    const who = [
      members && `${wanted.size} runs`,
      pods && `${pods.accounts.size} Pod Identity accounts`,
      tokens && `role tokens and ${tokens.denied.size} revoked runs`,
    ];
    const inIt = who.filter((part) => part !== undefined).join(' and ');
    const detail = `the trust policy would have ${size} characters with ${inIt} in it, ${maxChars} are allowed`;
    return { kind: 'refused', code: 'trust_policy_full', detail };
  }
  return { kind: 'changed', document, size };
}

/** The policy with all managed parts except the members. */
function withOtherParts(policy: JsonObject, scope: TrustScope, { pods, tokens }: Omit<TrustParts, 'members'>) {
  const withPods = pods ? withPodTrust(policy, scope, pods) : policy;
  return tokens ? withTokenTrust(withPods, scope, tokens) : withPods;
}

function withMembers(
  scope: TrustScope,
  policy: JsonObject,
  members: ReadonlySet<string>,
  keep: (account: string) => boolean,
): JsonObject {
  const ours = findOurs(scope, policy);
  const { home, isNew, isAlone } = ours;
  const stays = staying(scope, members, keep);
  const added = [...members].map((account) => subjectOf(scope.namespace, account));
  const managed = [...new Set([...added, ...home.managed.filter(stays)])].sort();
  if (managed.length === 0) {
    // There are no members, and there were none: no statement is written for them.
    const untouched = isNew || (home.foreign.length > 0 && home.managed.length === 0);
    if (untouched) return withSubjects(scope, policy, ours, undefined, stays);
    // Beside unmanaged subjects the placeholder is needed only where the statement would not be found again without it.
    if (home.foreign.length === 0 || !isAlone) managed.push(placeholderSubject);
  }
  return withSubjects(scope, policy, ours, [...home.foreign, ...managed], stays);
}

/** Whether a subject of ours stays where it is, although its account is no member. */
function staying(
  scope: TrustScope,
  members: ReadonlySet<string>,
  keep: (account: string) => boolean,
): (subject: string) => boolean {
  return (subject) => {
    const account = managedAccount(scope.namespace, subject);
    return account !== undefined && account !== '' && !members.has(account) && keep(account);
  };
}

/** Our subjects in all statements, each once, without literal ones, which let nobody in. */
function managedSubjects(scope: TrustScope, { home, strays }: Ours): Set<string> {
  const elsewhere = strays.flatMap(({ statement }) => subjectsIn(scope, statement));
  const named = elsewhere.filter(({ account, patterns }) => account !== '' && patterns);
  return new Set([...home.managed, ...named.map(({ subject }) => subject)]);
}

function accountsOf(scope: TrustScope, subjects: Iterable<string>): ReadonlySet<string> {
  const accounts = [...subjects].flatMap((subject) => managedAccount(scope.namespace, subject) ?? []);
  return new Set(accounts.filter((account) => account !== ''));
}

function malformed(detail: string): Refusal {
  return { kind: 'refused', code: 'malformed_trust_policy', detail };
}
