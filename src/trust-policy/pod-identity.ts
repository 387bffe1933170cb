/** Owns the trust policy statement for EKS Pod Identity: finds it in a document, and makes the wanted one. Pure. */
import { isObject, type Json, type JsonObject, statementsOf, stringsOf } from './json.ts';
import { sameSet } from './sets.ts';
import { placeholderSubject } from './subjects.ts';

/** The service accounts that EKS Pod Identity may assume a role for. */
export interface PodTrust {
  /** Names of service accounts in the compute namespace. */
  accounts: ReadonlySet<string>;
  /** Whether EKS sends no session tags for one of them: AWS cannot tell it from the cluster's other service accounts. */
  open: boolean;
}

/** The namespace and the cluster of the pods that are let in. */
export interface PodPlace {
  namespace: string;
  /** The ARN of the EKS cluster; undefined: none is configured, and no statement for EKS Pod Identity is managed. */
  cluster?: string | undefined;
}

export function samePodTrust(a: PodTrust | undefined, b: PodTrust | undefined): boolean {
  return (a?.open ?? false) === (b?.open ?? false) && sameSet(a?.accounts, b?.accounts);
}

/** The wanted accounts that are in already, and as many others as fit; all wanted ones where not even the former fit. */
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
/** The names of our statement: AWS's own, or one with a suffix where another statement has that. */
const ourSid = new RegExp(`^${podTrustSid}(OfDomino\\d*)?$`);
export const podService = 'pods.eks.amazonaws.com';
const actions = ['sts:AssumeRole', 'sts:TagSession'];
/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-abac.html: the tags that EKS sends along. */
const namespaceKey = 'aws:RequestTag/kubernetes-namespace';
const accountKey = 'aws:RequestTag/kubernetes-service-account';
const clusterKey = 'aws:RequestTag/eks-cluster-arn';
/** What EKS sends even without session tags: the EKS guide, "Cross-service confused deputy prevention". */
const sourceAccountKey = 'aws:SourceAccount';
const sourceArnKey = 'aws:SourceArn';
/** Stands for any service account in the entry of a statement that names none. */
export const anyAccount = '*';
/** The end of an entry whose statement names no cluster, as earlier releases wrote it. */
const anyCluster = ' of any cluster';

/** The service accounts in a statement of ours. `tags`, `source`: what binds it to the cluster; `unbound`: nothing does. */
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

/** The entries of our statements in a policy, each as one word, for comparison with what was written. */
export function podEntries(policy: JsonObject, place: PodPlace): string[] {
  const entries = findPodStatements(policy, place).flatMap(({ form, accounts }) =>
    [...accounts]
      .filter((account) => account !== placeholderSubject)
      .map((account) => podEntry(form === 'unbound' ? `${account}${anyCluster}` : account)),
  );
  return [...new Set(entries)];
}

/** The service accounts that our statements in a policy name, or `*`. */
export function podAccounts(policy: JsonObject, place: PodPlace): Set<string> {
  return new Set(findPodStatements(policy, place).flatMap(({ accounts }) => [...accounts]));
}

/** The entries of the statement that is wanted. */
export function podTrustEntries({ accounts, open }: PodTrust): string[] {
  return open && accounts.size > 0 ? [podEntry(anyAccount)] : [...accounts].map(podEntry);
}

/** Reads the form that a status has. */
export function toPodTrust({ accounts, open }: { accounts: readonly string[]; open: boolean }): PodTrust {
  return { accounts: new Set(accounts), open };
}

/** `pods.eks.amazonaws.com:<service account>`: no subject of a web identity looks like this. */
export function podEntry(account: string): string {
  return `${podService}:${account}`;
}

/** The policy in which EKS Pod Identity may assume the role for exactly these accounts, and all else is unchanged. */
export function withPodTrust(policy: JsonObject, place: PodPlace, trust: PodTrust): JsonObject {
  const { namespace, cluster } = place;
  if (cluster === undefined) return policy;
  const [found, ...strays] = findPodStatements(policy, place);
  // A second statement would still trust an account that the first one has dropped.
  const statements = statementsOf(policy).filter((_, index) => strays.every((stray) => stray.index !== index));
  if (trust.accounts.size === 0) {
    if (!found) return policy;
    const others = statements.toSpliced(found.index, 1);
    // IAM accepts no policy without a statement: the last one stays, for an account that cannot exist.
    if (others.length > 0) return { ...policy, Statement: others };
  }
  const isOpen = trust.open && trust.accounts.size > 0;
  const wanted = isOpen ? new Set([anyAccount]) : new Set(trust.accounts);
  if (wanted.size === 0) wanted.add(placeholderSubject);
  const isBound = found?.form === (isOpen ? 'source' : 'tags');
  const isSo = isBound && found.whole && sameSet(wanted, found.accounts);
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

/** Without session tags EKS sends only the cluster that it acts for. */
function sourceCondition(cluster: string): JsonObject {
  return { StringEquals: { [sourceAccountKey]: accountOf(cluster) }, ArnEquals: { [sourceArnKey]: cluster } };
}

function accountOf(cluster: string): string {
  return cluster.split(':')[4] ?? '';
}

/** An existing statement keeps its name; a new one gets AWS's own, unless another statement has that. */
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
 * Our statements: named as AWS names it, for EKS Pod Identity alone, and with no conditions except those that this service
 * writes, for our namespace and cluster. One without any condition, as AWS's own guide has it, and one that names no
 * cluster, as earlier releases wrote it, are ours too. There can be more than one: another statement with AWS's name may
 * have lost the conditions of its own.
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

/** Whether this service manages the statement. */
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
