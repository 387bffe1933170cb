/** Owns the editing of trust policies: which subjects are ours, and the document that has just the wanted ones. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { type PodTrust, podEntries, withPodTrust } from './pod-trust.ts';
import { managedAccount, placeholderSubject, subjectOf } from './subjects.ts';
import { findOurs, isObject, type Json, type JsonObject, type Ours, withSubjects } from './trust-statement.ts';

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

/** What of a document is ours to keep. */
export interface TrustParts {
  /** The subjects that web identity lets in: a mapping of an organization names the role. */
  members: boolean;
  /** Whom EKS Pod Identity assumes it for; undefined: no Pod Identity mapping names the role. */
  pods?: PodTrust | undefined;
}

export type Refusal = { kind: 'refused'; code: 'malformed_trust_policy' | 'trust_policy_full'; detail: string };

export type TrustPolicyEdit =
  | { kind: 'unchanged'; document: string; size: number }
  | { kind: 'changed'; document: string; size: number }
  | Refusal;

/** What a document says about us, before any edit. */
export interface TrustPolicyView {
  kind: 'read';
  /** The subjects of ours, and the entries of EKS Pod Identity, as they stand there. */
  subjects: ReadonlySet<string>;
  /** The service accounts that web identity lets in by these, each once. */
  accounts: ReadonlySet<string>;
  /** The characters left for members when those that `keep` names stay; each member takes `memberCost`. */
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
 * Reads what a document says about us.
 * @param text the document as IAM gives it, URL-decoded.
 * @param parts what of it is ours; the room is what is left beside the entries of EKS Pod Identity.
 */
export function readTrustPolicy(
  scope: TrustScope,
  text: string,
  parts: TrustParts = { members: true },
): TrustPolicyView | Refusal {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'refused') return parsed;
  const entries = parts.pods ? podEntries(parsed.policy, scope.namespace) : [];
  const policy = parts.pods ? withPodTrust(parsed.policy, scope.namespace, parts.pods) : parsed.policy;
  const ours = findOurs(scope, policy);
  const subjects = parts.members ? managedSubjects(ours) : [];
  const accounts = new Set<string>();
  for (const subject of subjects) {
    const account = managedAccount(scope.namespace, subject);
    if (account) accounts.add(account);
  }
  return {
    kind: 'read',
    subjects: new Set([...subjects, ...entries]),
    accounts,
    room: (maxChars, keep) => {
      const list = [...ours.home.foreign, ...keptSubjects(scope, ours, new Set(), keep)];
      const size = trustPolicySize(JSON.stringify(withSubjects(scope, policy, ours, list)));
      // The first member of an empty list needs no comma.
      return maxChars - size + (list.length === 0 ? 1 : 0);
    },
  };
}

/**
 * The document in which exactly the given accounts are let in by us, and all that is not ours is as it was.
 * @param text the document as IAM gives it, URL-decoded.
 * @param members service-account names, each of the form that `isServiceAccountName` checks; undefined where web
 * identity's part is not ours.
 * @param keep whether a managed subject whose account is no member stays nevertheless, in the form that it has.
 * @param maxChars the role's quota in characters.
 * @param pods whom EKS Pod Identity assumes the role for; undefined where that part is not ours.
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
): TrustPolicyEdit {
  const parsed = parsePolicy(text);
  if (parsed.kind === 'refused') return parsed;
  const { policy } = parsed;
  const wanted = new Set(members);
  const withPods = pods ? withPodTrust(policy, scope.namespace, pods) : policy;
  const edited = members ? withMembers(scope, withPods, wanted, keep) : withPods;
  if (isDeepStrictEqual(edited, policy)) return unchanged(policy);
  const document = JSON.stringify(edited);
  const size = trustPolicySize(document);
  // A document that is too long already may still become shorter.
  if (size > maxChars && size >= trustPolicySize(JSON.stringify(policy))) {
    const who = [members && `${wanted.size} runs`, pods && `${pods.accounts.size} Pod Identity accounts`];
    const inIt = who.filter((part) => part !== undefined).join(' and ');
    const detail = `the trust policy would have ${size} characters with ${inIt} in it, ${maxChars} are allowed`;
    return { kind: 'refused', code: 'trust_policy_full', detail };
  }
  return { kind: 'changed', document, size };
}

function withMembers(
  scope: TrustScope,
  policy: JsonObject,
  members: ReadonlySet<string>,
  keep: (account: string) => boolean,
): JsonObject {
  const ours = findOurs(scope, policy);
  const added = [...members].map((account) => subjectOf(scope.namespace, account));
  const managed = [...added, ...keptSubjects(scope, ours, members, keep)].sort();
  const list = [...ours.home.foreign, ...managed];
  // Nobody in and no statement of ours: none is added to say so.
  if (list.length === 0 && ours.added) return policy;
  return withSubjects(scope, policy, ours, list.length > 0 ? list : [placeholderSubject]);
}

function unchanged(policy: JsonObject): TrustPolicyEdit {
  const document = JSON.stringify(policy);
  return { kind: 'unchanged', document, size: trustPolicySize(document) };
}

function keptSubjects(
  scope: TrustScope,
  ours: Ours,
  members: ReadonlySet<string>,
  keep: (account: string) => boolean,
): string[] {
  return managedSubjects(ours).filter((subject) => {
    const account = managedAccount(scope.namespace, subject);
    return account !== undefined && account !== '' && !members.has(account) && keep(account);
  });
}

/** Each once, wherever they are. */
function managedSubjects({ home, strays }: Ours): string[] {
  return [...new Set([home, ...strays].flatMap(({ managed }) => managed))];
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
