/** Owns the state that Pod Identity must have in a quiet system, by the mappings. Pure, and apart from the service. */
import { isDeepStrictEqual } from 'node:util';
import type { Orders } from '../stack/main.ts';
import type { Document } from './documents.ts';

/** What an administrator mapped a user to. */
export interface Mapped {
  account: string;
  /** ARN. */
  role: string;
  target: string | undefined;
  sessionTags: boolean;
}

/** Mappings that may have been in force from the moment that they were sent. */
export interface MappedUsers {
  at: number;
  users: ReadonlyMap<string, Mapped>;
}

export interface PodRole {
  name: string;
  arn: string;
  /** Its first trust policy; several where it was deleted and created again. */
  originals: readonly Document[];
}

export interface PodFacts {
  /** Oldest first. */
  mappings: readonly MappedUsers[];
  roles: readonly PodRole[];
  /** Service accounts that are not the service's, which it must never delete. */
  lasting: readonly string[];
  state: PodState;
}

export type PodState = ReturnType<Orders['pod-identity-state']>;

/** Stands for every account in a trust policy: a statement without conditions. */
export const anyAccount = '*';

/** The accounts for which a trust policy admits EKS Pod Identity, and its unmanaged part. */
export function podTrustIn(document: Document): { accounts: Set<string>; rest: Document; bad: string[] } {
  const statements = document.Statement as Document[];
  const isPods = ({ Principal }: Document) => isDeepStrictEqual(Principal, { Service: 'pods.eks.amazonaws.com' });
  const own = statements.filter(isPods);
  const bad = own.length > 1 ? ['several statements for Pod Identity'] : [];
  const accounts = new Set<string>();
  for (const { Condition: condition = {} } of own) {
    const { StringEquals: tags, ArnEquals: source } = condition as Record<string, Record<string, string[]> | undefined>;
    const isOpen = source?.['aws:SourceArn'] !== undefined;
    const named = tags?.['aws:RequestTag/kubernetes-service-account'];
    for (const account of isOpen ? [anyAccount] : (named ?? [])) accounts.add(account);
    const namespaces = tags?.['aws:RequestTag/kubernetes-namespace'];
    if (!isOpen && !isDeepStrictEqual(namespaces, ['domino-compute'])) bad.push('no namespace');
    if (!isOpen && tags?.['aws:RequestTag/eks-cluster-arn']?.length !== 1) bad.push('no cluster');
    if (accounts.size === 0) bad.push('a statement for Pod Identity that names nobody');
  }
  return { accounts, rest: { ...document, Statement: statements.filter((one) => !isPods(one)) }, bad };
}

/** What is not right (yet) once the system is quiet. */
export function podSettledProblems(facts: PodFacts): string[] {
  const { mappings, state } = facts;
  const now = mappings.at(-1)?.users ?? new Map<string, Mapped>();
  const inTheWay = new Set(state.associations.filter(({ ours }) => !ours).map(({ serviceAccount }) => serviceAccount));
  const blocked = ([, { account }]: [string, Mapped]) => inTheWay.has(account);
  const inPlace = new Map([...now].filter((entry) => !blocked(entry)));
  const problems = [...now].filter(blocked).flatMap(([user, { account }]) => {
    const told = statusOf(state, account)?.reason?.code;
    return told === 'association_conflict' ? [] : [`${user} is told ${told} of the foreign association of ${account}`];
  });
  for (const [user, mapped] of inPlace) problems.push(...placeProblems(state, user, mapped));
  problems.push(...goneProblems(facts, now), ...mutationProblems(state, inPlace));
  for (const [index, role] of facts.roles.entries()) {
    const document = state.documents[index];
    if (!document) problems.push(`${role.name} is not there: the suite did not make it again`);
    else problems.push(...trustProblems(role, document, [...now.values()], [...inPlace.values()]));
  }
  return problems;
}

const statusOf = ({ statuses }: PodState, account: string) =>
  statuses.find(({ service_account: name }) => name === account);

function placeProblems(state: PodState, user: string, { account, role, target, sessionTags }: Mapped): string[] {
  const problems: string[] = [];
  if (!state.accounts.some(({ name }) => name === account)) problems.push(`${user} has no service account ${account}`);
  const own = state.associations.filter(({ serviceAccount }) => serviceAccount === account);
  const [found] = own;
  if (!found || own.length > 1) problems.push(`${own.length} associations of ${account}, which ${user} is mapped to`);
  else if (found.roleArn !== role || found.targetRoleArn !== target || found.disableSessionTags === sessionTags) {
    problems.push(`the association of ${account} is not what ${user} is mapped to: ${JSON.stringify(found)}`);
  }
  const told = statusOf(state, account);
  if (told?.state !== 'in_place') problems.push(`${user} is told ${JSON.stringify(told)} of ${account}`);
  return problems;
}

/** All parts of the service that no mapping names. */
function goneProblems({ mappings, lasting, state }: PodFacts, now: ReadonlyMap<string, Mapped>): string[] {
  const problems: string[] = [];
  const wanted = new Set([...now.values()].map(({ account }) => account));
  const ever = new Set(mappings.flatMap(({ users }) => [...users.values()].map(({ account }) => account)));
  for (const { serviceAccount: account, ours } of state.associations) {
    if (ours && !wanted.has(account)) problems.push(`${account} has an association, and no mapping names it`);
  }
  for (const account of ever) {
    if (wanted.has(account)) continue;
    const isUsed = state.pods.some((pod) => pod.account === account);
    const isMade = state.accounts.some(({ name, made }) => name === account && made);
    if (isMade && !isUsed) problems.push(`service account ${account} is left, and no pod uses it`);
    const told = statusOf(state, account);
    if (told && !isUsed) problems.push(`${account} is still told of: ${JSON.stringify(told)}`);
  }
  for (const account of lasting) {
    if (!state.accounts.some(({ name }) => name === account)) problems.push(`${account} is gone, and is not ours`);
  }
  return problems;
}

function mutationProblems({ rules, users }: PodState, inPlace: ReadonlyMap<string, Mapped>): string[] {
  const wanted = Object.fromEntries([...inPlace].map(([user, { account }]) => [user, account]));
  if (!isDeepStrictEqual(Object.fromEntries(users), wanted)) {
    return [`the Mutation gives ${JSON.stringify(users)}, and not ${JSON.stringify(wanted)}`];
  }
  if (inPlace.size === 0) return rules.length === 0 ? [] : ['there is a Mutation for nobody'];
  const [rule] = rules as { labelSelectors?: unknown; cloudWorkloadIdentity?: Record<string, unknown> }[];
  const { default_sa: others, assume_sa_mapping: isGuessed } = rule?.cloudWorkloadIdentity ?? {};
  if (rules.length === 1 && rule?.labelSelectors && others === '' && isGuessed === false) return [];
  return [`the Mutation does more than it should: ${JSON.stringify(rules)}`];
}

function trustProblems(role: PodRole, document: Document, now: Mapped[], inPlace: Mapped[]): string[] {
  const { accounts, rest, bad } = podTrustIn(document);
  const here = (all: Mapped[]) => all.filter(({ role: arn }) => arn === role.arn);
  const problems = bad.map((what) => `${role.name}: ${what}`);
  const isOpen = (all: Mapped[]) => here(all).some(({ sessionTags }) => !sessionTags);
  for (const { account } of here(inPlace)) {
    const isIn = isOpen(inPlace) ? accounts.has(anyAccount) : accounts.has(account) || accounts.has(anyAccount);
    if (!isIn) problems.push(`${role.name} does not trust ${account}, which is mapped to it`);
  }
  const allowed = new Set(here(now).map(({ account }) => account));
  if (isOpen(now)) allowed.add(anyAccount);
  for (const account of accounts) {
    if (!allowed.has(account)) problems.push(`${role.name} trusts ${account}, which nothing maps to it`);
  }
  if (!isDeepStrictEqual(rest, role.originals.at(-1))) {
    problems.push(`${role.name}: what is not ours was changed: ${JSON.stringify(document)}`);
  }
  return problems;
}
