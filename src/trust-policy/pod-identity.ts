/** Owns the statement of a trust policy that lets EKS Pod Identity in: which it is, and the one that is wanted. Pure. */
import { isObject, type Json, type JsonObject, statementsOf, stringsOf } from './json.ts';
import { placeholderSubject } from './subjects.ts';

/** The service accounts that EKS Pod Identity may assume a role for. */
export interface PodTrust {
  /** Names of service accounts in the compute namespace. */
  accounts: ReadonlySet<string>;
  /** No session tags are sent for one of them: nothing can tell it from the other service accounts of the cluster. */
  open: boolean;
}

/** Where the pods are that we let in. */
export interface PodPlace {
  namespace: string;
  /** The ARN of the EKS cluster; undefined: none is named, and nothing of EKS Pod Identity in a document is ours. */
  cluster?: string | undefined;
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
export const podService = 'pods.eks.amazonaws.com';
const actions = ['sts:AssumeRole', 'sts:TagSession'];
/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html: the tags that EKS sends along. */
const namespaceKey = 'aws:RequestTag/kubernetes-namespace';
const accountKey = 'aws:RequestTag/kubernetes-service-account';
const clusterKey = 'aws:RequestTag/eks-cluster-arn';
/** What EKS says of itself, also where no session tags are sent: the EKS guide, "Cross-service confused deputy prevention". */
const sourceAccountKey = 'aws:SourceAccount';
const sourceArnKey = 'aws:SourceArn';
/** What stands for a statement that names no service account where entries are compared. */
export const anyAccount = '*';
/** After the entry of a statement that earlier releases wrote: it names no cluster. */
const anyCluster = ' of any cluster';

/** The service accounts in a statement of ours. `tags`, `source`: bound to the cluster by the one or the other; `unbound`: to none. */
interface Trusted {
  form: 'tags' | 'source' | 'unbound';
  /** Service accounts; `*` where none is named. */
  accounts: ReadonlySet<string>;
}

interface PodStatement extends Trusted {
  index: number;
  /** Whether it has both actions. */
  whole: boolean;
}

/** The entries that a policy's statements of ours have, each as one word: they are compared with what was written. */
export function podEntries(policy: JsonObject, place: PodPlace): string[] {
  const entries = findPodStatements(policy, place).flatMap(({ form, accounts }) =>
    [...accounts]
      .filter((account) => account !== placeholderSubject)
      .map((account) => podEntry(form === 'unbound' ? `${account}${anyCluster}` : account)),
  );
  return [...new Set(entries)];
}

/** The service accounts that a policy's statements of ours name, or `*`. */
export function podAccounts(policy: JsonObject, place: PodPlace): Set<string> {
  return new Set(findPodStatements(policy, place).flatMap(({ accounts }) => [...accounts]));
}

/** The entries of the statement that is wanted. */
export function podTrustEntries({ accounts, open }: PodTrust): string[] {
  return open && accounts.size > 0 ? [podEntry(anyAccount)] : [...accounts].map(podEntry);
}

/** As a status keeps it. */
export function toPodTrust({ accounts, open }: { accounts: readonly string[]; open: boolean }): PodTrust {
  return { accounts: new Set(accounts), open };
}

/** `pods.eks.amazonaws.com:<service account>`: no subject of a web identity looks like this. */
export function podEntry(account: string): string {
  return `${podService}:${account}`;
}

/** The policy in which EKS Pod Identity may assume the role for just these, and all else is as it was. */
export function withPodTrust(policy: JsonObject, place: PodPlace, trust: PodTrust): JsonObject {
  const { namespace, cluster } = place;
  if (cluster === undefined) return policy;
  const [found, ...strays] = findPodStatements(policy, place);
  // A second statement would still trust an account that the first one has dropped.
  const statements = statementsOf(policy).filter((_, index) => strays.every((stray) => stray.index !== index));
  if (trust.accounts.size === 0) {
    if (!found) return policy;
    const others = statements.toSpliced(found.index, 1);
    // IAM takes no policy without a statement: the last one stays, for an account that cannot be.
    if (others.length > 0) return { ...policy, Statement: others };
  }
  const isOpen = trust.open && trust.accounts.size > 0;
  const wanted = isOpen ? new Set([anyAccount]) : new Set(trust.accounts);
  if (wanted.size === 0) wanted.add(placeholderSubject);
  const isBound = found?.form === (isOpen ? 'source' : 'tags');
  const isSo = isBound && found.whole && wanted.size === found.accounts.size && wanted.isSubsetOf(found.accounts);
  if (isSo && strays.length === 0) return policy;
  const condition = isOpen ? sourceCondition(cluster) : tagCondition(namespace, cluster, wanted);
  const next: JsonObject = {
    Sid: sidOf(found && statements[found.index], statements),
    Effect: 'Allow',
    Principal: { Service: podService },
    Action: [...actions],
    Condition: condition,
  };
  const index = found?.index ?? statements.length;
  return { ...policy, Statement: statements.toSpliced(index, 1, next) };
}

function tagCondition(namespace: string, cluster: string, accounts: ReadonlySet<string>): JsonObject {
  return {
    StringEquals: { [clusterKey]: [cluster], [namespaceKey]: [namespace], [accountKey]: [...accounts].sort() },
  };
}

/** Without session tags EKS says no more than which cluster it asks for. */
function sourceCondition(cluster: string): JsonObject {
  return { StringEquals: { [sourceAccountKey]: accountOf(cluster) }, ArnEquals: { [sourceArnKey]: cluster } };
}

function accountOf(cluster: string): string {
  return cluster.split(':')[4] ?? '';
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
 * The statements that are ours: named as AWS names it, for EKS Pod Identity alone, and with no condition but those that
 * we write, for our namespace and cluster. One without any condition, as AWS's own guide has it, and one that names no
 * cluster, as earlier releases wrote it, are ours too. There is more than one where another statement, that had AWS's name
 * and conditions of its own, lost these.
 */
function findPodStatements(policy: JsonObject, place: PodPlace): PodStatement[] {
  return statementsOf(policy).flatMap((candidate, index) => {
    const trusted = trustedBy(candidate, place);
    if (!trusted) return [];
    const has = (action: string) =>
      stringsOf(candidate.Action)?.some((one) => one.toLowerCase() === action.toLowerCase());
    return [{ ...trusted, index, whole: actions.every(has) }];
  });
}

/** Whether the statement is one that this service keeps. */
export function isPodStatement(candidate: JsonObject, place: PodPlace): boolean {
  return trustedBy(candidate, place) !== undefined;
}

function trustedBy(candidate: JsonObject, { namespace, cluster }: PodPlace): Trusted | undefined {
  const { Sid: sid, Effect: effect, Principal: principal, Action: action, Condition: condition, ...rest } = candidate;
  if (cluster === undefined || typeof sid !== 'string' || !ourSid.test(sid) || effect !== 'Allow') return undefined;
  if (Object.keys(rest).length > 0 || !isOnly(principal, podService)) return undefined;
  const known = new Set(actions.map((name) => name.toLowerCase()));
  if (!stringsOf(action)?.every((name) => known.has(name.toLowerCase()))) return undefined;
  if (condition === undefined) return { form: 'unbound', accounts: new Set([anyAccount]) };
  if (!isObject(condition)) return undefined;
  const { StringEquals: equals, ArnEquals: arns, ...others } = condition;
  if (Object.keys(others).length > 0 || !isObject(equals)) return undefined;
  if (arns === undefined) return trustedByTags(equals, namespace, cluster);
  const isSource =
    isObject(arns) &&
    hasJust(equals, { [sourceAccountKey]: accountOf(cluster) }) &&
    hasJust(arns, { [sourceArnKey]: cluster });
  return isSource ? { form: 'source', accounts: new Set([anyAccount]) } : undefined;
}

function trustedByTags(equals: JsonObject, namespace: string, cluster: string): Trusted | undefined {
  const { [clusterKey]: clusters, [namespaceKey]: namespaces, [accountKey]: accounts, ...others } = equals;
  if (Object.keys(others).length > 0 || !isList(namespaces, [namespace])) return undefined;
  if (clusters !== undefined && !isList(clusters, [cluster])) return undefined;
  if (accounts === undefined) return { form: 'unbound', accounts: new Set([anyAccount]) };
  const names = new Set(stringsOf(accounts));
  return { form: clusters === undefined ? 'unbound' : 'tags', accounts: names };
}

function hasJust(block: JsonObject, expected: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(block);
  return keys.length === Object.keys(expected).length && keys.every((key) => isList(block[key], [expected[key] ?? '']));
}

function isOnly(principal: Json | undefined, name: string): boolean {
  return isObject(principal) && hasJust(principal, { Service: name });
}

function isList(value: Json | undefined, expected: readonly string[]): boolean {
  const values = stringsOf(value);
  return values?.length === expected.length && values.every((one, index) => one === expected[index]);
}
