/** Owns the statement of a trust policy that lets EKS Pod Identity in: which it is, and the one that is wanted. Pure. */
import { placeholderSubject } from './subjects.ts';
import { isObject, type Json, type JsonObject, statementsOf, stringsOf } from './trust-statement.ts';

/** Whom EKS Pod Identity may assume a role for. */
export interface PodTrust {
  /** Names of service accounts in the compute namespace. */
  accounts: ReadonlySet<string>;
  /** No session tags are sent for one of them, so that nothing can tell it from others: no condition is possible. */
  open: boolean;
}

export function samePodTrust(a: PodTrust | undefined, b: PodTrust | undefined): boolean {
  const [one, other] = [a?.accounts ?? new Set<string>(), b?.accounts ?? new Set<string>()];
  return (a?.open ?? false) === (b?.open ?? false) && one.size === other.size && one.isSubsetOf(other);
}

/** Of those who are wanted, who is in already, and of the others as many as have room; all where not even the first have. */
export function whoFits(pods: PodTrust, before: PodTrust | undefined, fits: (some: PodTrust) => boolean): PodTrust {
  let found = { accounts: pods.accounts.intersection(before?.accounts ?? new Set<string>()), open: pods.open };
  if (!fits(found)) return pods;
  for (const account of pods.accounts.difference(found.accounts)) {
    const more = { accounts: new Set([...found.accounts, account]), open: pods.open };
    if (!fits(more)) break;
    found = more;
  }
  return found;
}

/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-role.html */
export const podTrustSid = 'AllowEksAuthToAssumeRoleForPodIdentity';
/** What we name it where somebody gave AWS's name to another statement. */
const ourSid = new RegExp(`^${podTrustSid}(OfDomino\\d*)?$`);
const service = 'pods.eks.amazonaws.com';
const actions = ['sts:AssumeRole', 'sts:TagSession'];
/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html: the tags that EKS sends along. */
const namespaceKey = 'aws:RequestTag/kubernetes-namespace';
const accountKey = 'aws:RequestTag/kubernetes-service-account';
/** What stands for a statement without conditions where entries are compared. */
const anyAccount = '*';

interface PodStatement {
  index: number;
  /** Service accounts; `*` where there is no condition. */
  accounts: ReadonlySet<string>;
  /** Whether it has both actions. */
  whole: boolean;
}

/** The entries that a policy's statements of ours have, each as one word: they are compared with what was written. */
export function podEntries(policy: JsonObject, namespace: string): string[] {
  const accounts = findPodStatements(policy, namespace).flatMap((found) => [...found.accounts]);
  return [...new Set(accounts)].filter((account) => account !== placeholderSubject).map(podEntry);
}

/** The entries of the statement that is wanted. */
export function podTrustEntries({ accounts, open }: PodTrust): string[] {
  return open ? [podEntry(anyAccount)] : [...accounts].map(podEntry);
}

/** As a status keeps it. */
export function toPodTrust({ accounts, open }: { accounts: readonly string[]; open: boolean }): PodTrust {
  return { accounts: new Set(accounts), open };
}

/** `pods.eks.amazonaws.com:<service account>`: no subject of a web identity looks like this. */
export function podEntry(account: string): string {
  return `${service}:${account}`;
}

/** The policy in which EKS Pod Identity may assume the role for just these, and all else is as it was. */
export function withPodTrust(policy: JsonObject, namespace: string, trust: PodTrust): JsonObject {
  const [found, ...strays] = findPodStatements(policy, namespace);
  // Others would go on trusting whom the first one does not any more.
  const statements = statementsOf(policy).filter((_, index) => strays.every((stray) => stray.index !== index));
  if (trust.accounts.size === 0) {
    if (!found) return policy;
    const others = statements.toSpliced(found.index, 1);
    // IAM takes no policy without a statement: the last one stays, for an account that cannot be.
    if (others.length > 0) return { ...policy, Statement: others };
  }
  const wanted = trust.open ? new Set([anyAccount]) : new Set(trust.accounts);
  if (wanted.size === 0) wanted.add(placeholderSubject);
  const isSo = found?.whole && wanted.size === found.accounts.size && wanted.isSubsetOf(found.accounts);
  if (isSo && strays.length === 0) return policy;
  const next = statement(sidOf(found && statements[found.index], statements), namespace, wanted);
  const index = found?.index ?? statements.length;
  return { ...policy, Statement: statements.toSpliced(index, 1, next) };
}

function statement(sid: string, namespace: string, accounts: ReadonlySet<string>): JsonObject {
  const trusted = { Sid: sid, Effect: 'Allow', Principal: { Service: service }, Action: [...actions] };
  if (accounts.has(anyAccount)) return trusted;
  const tags = { [namespaceKey]: [namespace], [accountKey]: [...accounts].sort() };
  return { ...trusted, Condition: { StringEquals: tags } };
}

/** A statement keeps its name; a new one has AWS's own, unless somebody gave that to another statement. */
function sidOf(found: JsonObject | undefined, statements: readonly JsonObject[]): string {
  if (typeof found?.Sid === 'string') return found.Sid;
  const taken = new Set(statements.map(({ Sid: sid }) => sid));
  const names = [podTrustSid, `${podTrustSid}OfDomino`];
  for (let number = 2; ; number += 1) {
    const free = names.find((name) => !taken.has(name));
    if (free !== undefined) return free;
    names.push(`${podTrustSid}OfDomino${number}`);
  }
}

/**
 * The statements that are ours: named as AWS names it, for EKS Pod Identity alone, and with no condition but the
 * two that we write, for our namespace. One without any condition, as AWS's own guide has it, is ours too. There is more
 * than one where somebody else's, that had AWS's name and conditions of its own, lost these.
 */
function findPodStatements(policy: JsonObject, namespace: string): PodStatement[] {
  return statementsOf(policy).flatMap((candidate, index) => {
    const accounts = trustedAccounts(candidate, namespace);
    if (!accounts) return [];
    const has = (action: string) =>
      stringsOf(candidate.Action)?.some((one) => one.toLowerCase() === action.toLowerCase());
    return [{ index, accounts, whole: actions.every(has) }];
  });
}

function trustedAccounts(candidate: JsonObject, namespace: string): ReadonlySet<string> | undefined {
  const { Sid: sid, Effect: effect, Principal: principal, Action: action, Condition: condition, ...rest } = candidate;
  if (typeof sid !== 'string' || !ourSid.test(sid) || effect !== 'Allow') return undefined;
  if (Object.keys(rest).length > 0 || !isOnly(principal, service)) return undefined;
  const known = new Set(actions.map((name) => name.toLowerCase()));
  if (!stringsOf(action)?.every((name) => known.has(name.toLowerCase()))) return undefined;
  if (condition === undefined) return new Set([anyAccount]);
  if (!isObject(condition) || Object.keys(condition).length !== 1 || !isObject(condition.StringEquals))
    return undefined;
  const { [namespaceKey]: namespaces, [accountKey]: accounts, ...others } = condition.StringEquals;
  if (Object.keys(others).length > 0 || !isList(namespaces, [namespace])) return undefined;
  return accounts === undefined ? new Set([anyAccount]) : new Set(stringsOf(accounts));
}

function isOnly(principal: Json | undefined, name: string): boolean {
  if (!isObject(principal) || Object.keys(principal).length !== 1) return false;
  return isList(principal.Service, [name]);
}

function isList(value: Json | undefined, expected: readonly string[]): boolean {
  const values = stringsOf(value);
  return values?.length === expected.length && values.every((one, index) => one === expected[index]);
}
