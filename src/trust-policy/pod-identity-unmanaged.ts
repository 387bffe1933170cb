/** Owns what unmanaged statements of a trust policy mean for EKS Pod Identity: which are open, which are stricter. Pure. */

import { isObject, type JsonObject, statementsOf, stringsOf } from './json.ts';
import { anyAccount, isPodStatement, type PodPlace, type PodTrust, podAccounts, podService } from './pod-identity.ts';
import { allHold, holds, inWords, type KnownKeys, type Test, testsOf } from './pod-identity-conditions.ts';
import { matchesPattern } from './wildcards.ts';

export const podTrustProblemCodes = ['trust_policy_open', 'trust_policy_stricter'] as const;

/** What a person has to fix in the unmanaged statements of a trust policy. */
export interface PodTrustProblem {
  code: (typeof podTrustProblemCodes)[number];
  detail: string;
}

export interface BesidePods {
  problem: PodTrustProblem | undefined;
  /** The wanted service accounts that our statement may name: where the owner is stricter, those already in it. */
  allowed: PodTrust;
}

const tag = (name: string) => `aws:requesttag/${name}`;
const tags = [
  'eks-cluster-arn',
  'eks-cluster-name',
  'kubernetes-namespace',
  'kubernetes-service-account',
  'kubernetes-pod-name',
  'kubernetes-pod-uid',
].map(tag);
/** The keys by which a statement names service accounts: a test on them makes it one for other accounts, not a stricter one. */
const accountKeys: ReadonlySet<string> = new Set([tag('kubernetes-namespace'), tag('kubernetes-service-account')]);
/** Stands for the name of any other cluster, namespace, service account or pod. No name in AWS or Kubernetes has this form. */
const stranger = 'IRSA_SVC.any.other';

export function besidePods(policy: JsonObject, place: PodPlace, pods: PodTrust): BesidePods {
  const { cluster } = place;
  if (cluster === undefined || pods.accounts.size === 0) return { problem: undefined, allowed: pods };
  const all = statementsOf(policy).map((statement, index) => ({ statement, name: nameOf(statement, index) }));
  const others = all.filter(({ statement }) => coversPods(statement) && !isPodStatement(statement, place));
  const open = others.filter(({ statement }) => isOpen(statement, others, cluster));
  const stricter = others.flatMap(({ statement, name }) => {
    const missing = statement.Effect === 'Allow' && namesService(statement) ? missingFor(statement, cluster, pods) : [];
    return missing.length === 0 ? [] : [`${name} asks for ${missing.map(inWords).join(' and ')}`];
  });
  if (stricter.length > 0) {
    const detail = `the role's owner is stricter than irsa-svc, which therefore adds no accounts: ${stricter.join('; ')}`;
    return {
      problem: { code: 'trust_policy_stricter', detail: detail.slice(0, 1_000) },
      allowed: alreadyIn(policy, place, pods),
    };
  }
  if (open.length === 0) return { problem: undefined, allowed: pods };
  const names = open.map(({ name }) => name).join(', ');
  const detail = `the role stays open to every Pod Identity association of the AWS account, by ${names} of its trust policy`;
  return { problem: { code: 'trust_policy_open', detail: detail.slice(0, 1_000) }, allowed: pods };
}

function nameOf({ Sid: sid }: JsonObject, index: number): string {
  return typeof sid === 'string' && sid !== '' ? `statement ${sid}` : `statement number ${index + 1}`;
}

/** Whether a statement covers sts:AssumeRole by EKS Pod Identity, whatever its conditions. */
function coversPods(statement: JsonObject): boolean {
  return coversAction(statement) && (namesService(statement) || namesEverybody(statement));
}

function coversAction({ Action: action, NotAction: except }: JsonObject): boolean {
  const named = (patterns: string[] | undefined) =>
    patterns?.some((pattern) => matchesPattern(pattern.toLowerCase(), 'sts:assumerole')) ?? false;
  return action === undefined ? except !== undefined && !named(stringsOf(except)) : named(stringsOf(action));
}

function namesService({ Principal: principal }: JsonObject): boolean {
  return isObject(principal) && (stringsOf(principal.Service) ?? []).includes(podService);
}

function namesEverybody({ Principal: principal }: JsonObject): boolean {
  return principal === '*' || (isObject(principal) && (stringsOf(principal.AWS) ?? []).includes('*'));
}

/** Whether a statement lets in a pod of any cluster of the account, with session tags or without, that no Deny excludes. */
function isOpen(statement: JsonObject, all: readonly { statement: JsonObject }[], cluster: string): boolean {
  if (statement.Effect !== 'Allow') return false;
  const denies = all.filter(({ statement: { Effect: effect } }) => effect === 'Deny').map((one) => one.statement);
  return [true, false].some((isTagged) => {
    const request = requestOf(strangersCluster(cluster), stranger, isTagged);
    const isIn = allHold(testsOf(statement.Condition), request) === true;
    return isIn && !denies.some(({ Condition: condition }) => allHold(testsOf(condition), request) === true);
  });
}

/** The tests that our pods may not pass, apart from those on the names of accounts. */
function missingFor({ Condition: condition }: JsonObject, cluster: string, { open }: PodTrust): Test[] {
  const request = requestOf(cluster, undefined, !open);
  const isOfOthers = ({ key }: Test) => !open && accountKeys.has(key.toLowerCase());
  return testsOf(condition).filter((test) => !isOfOthers(test) && holds(test, request) !== true);
}

/** @param name the name of namespace, service account and pod; undefined: not known, or not the same for all. */
function requestOf(cluster: string, name: string | undefined, isTagged: boolean): KnownKeys {
  const known = new Map<string, string | null>([
    ['aws:sourcearn', cluster],
    ['aws:sourceaccount', cluster.split(':')[4] ?? ''],
  ]);
  for (const key of tags) if (!isTagged || name !== undefined) known.set(key, isTagged ? (name ?? '') : null);
  if (!isTagged) return known;
  known.set(tag('eks-cluster-arn'), cluster);
  known.set(tag('eks-cluster-name'), cluster.slice(cluster.indexOf('/') + 1));
  return known;
}

function strangersCluster(cluster: string): string {
  return `${cluster.slice(0, cluster.indexOf('/'))}/${stranger}`;
}

function alreadyIn(policy: JsonObject, place: PodPlace, pods: PodTrust): PodTrust {
  const named = podAccounts(policy, place);
  if (named.has(anyAccount)) return pods;
  const accounts = pods.accounts.intersection(named);
  return accounts.size === pods.accounts.size && !pods.open ? pods : { accounts, open: false };
}
