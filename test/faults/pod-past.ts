/** Owns what must never happen to Pod Identity, whatever breaks, judged by all writes of a round. Pure. */
import { isDeepStrictEqual } from 'node:util';
import type { Orders } from '../stack/main.ts';
import { anyAccount, type Mapped, type MappedUsers, type PodRole, podTrustIn } from './pod-model.ts';

export type PodPast = ReturnType<Orders['pod-identity-past']>;
type EksWrite = PodPast['eksWrites'][0];
type MutationVersion = PodPast['mutations'][0];

export interface PodPastFacts {
  mappings: readonly MappedUsers[];
  roles: readonly PodRole[];
  past: PodPast;
  /** By a replica's name, its identity in the lease; undefined where it never held the lease. */
  identities: ReadonlyMap<string, string>;
}

export function podPastProblems(facts: PodPastFacts): string[] {
  return [
    ...mutationVersions(facts),
    ...trustWrites(facts),
    ...facts.past.eksWrites.flatMap((write, index) => eksWriteProblems(facts, write, index)),
    ...facts.past.deletedAccounts
      .filter(({ byHand, livePods }) => !byHand && livePods > 0)
      .map(({ account, livePods }) => `service account ${account} was deleted while ${livePods} live pods used it`),
  ];
}

/** Whether any mapping that was sent by then, or at any time, is like this. */
function anyMapping({ mappings }: PodPastFacts, by: number, isIt: (mapped: Mapped, user: string) => boolean): boolean {
  return mappings.some(({ at, users }) => at <= by && [...users].some(([user, mapped]) => isIt(mapped, user)));
}

function mutationVersions(facts: PodPastFacts): string[] {
  const { mutations, handled } = facts.past;
  const problems: string[] = [];
  let before: MutationVersion | undefined;
  for (const version of mutations) {
    const { at, users, associated, byHand } = version;
    const added = users.filter(
      ([user, account]) => !before?.users.some((one) => one[0] === user && one[1] === account),
    );
    before = version;
    if (byHand) continue;
    const accounts = users.map(([, account]) => account);
    if (new Set(accounts).size < accounts.length) problems.push(`two users had one account: ${JSON.stringify(users)}`);
    for (const [user, account] of users) {
      const isMapped = anyMapping(facts, at, (mapped, name) => name === user && mapped.account === account);
      if (!isMapped) problems.push(`the Mutation gave ${account} to ${user}, who is not mapped to it`);
    }
    for (const [user, account] of added) {
      if (associated.includes(account) || handled.includes(account)) continue;
      problems.push(`the Mutation gave ${account} to ${user} before it had an association`);
    }
  }
  return problems;
}

function trustWrites(facts: PodPastFacts): string[] {
  return facts.past.trustWrites.flatMap(({ role: name, by, at, document }) => {
    const role = facts.roles.find((one) => one.name === name);
    const { accounts, rest, bad } = podTrustIn(document);
    const problems = bad.map((what) => `${by} wrote into ${name}: ${what}`);
    if (!role?.originals.some((original) => isDeepStrictEqual(original, rest))) {
      problems.push(`${by} changed what is not ours in ${name}: ${JSON.stringify(document)}`);
    }
    for (const account of accounts) {
      const isMapped = anyMapping(
        facts,
        at,
        (mapped) =>
          mapped.role === role?.arn && (account === anyAccount ? !mapped.sessionTags : mapped.account === account),
      );
      if (!isMapped) problems.push(`${by} let ${account} into ${name}, which nobody mapped it to`);
    }
    return problems;
  });
}

function eksWriteProblems(facts: PodPastFacts, write: EksWrite, index: number): string[] {
  const { past, identities } = facts;
  const { action, by, serviceAccount: account, startedAt, endedAt = startedAt, body, outcome } = write;
  const problems: string[] = [];
  const what = `${by}'s ${action} of ${account}`;
  const holders = past.leases.filter(
    ({ at }, each) => at <= startedAt && !((past.leases[each + 1]?.at ?? Infinity) < startedAt),
  );
  if (!holders.some(({ holder }) => holder === identities.get(by))) problems.push(`${what} without the lease`);
  for (const other of past.eksWrites.slice(index + 1)) {
    if (other.serviceAccount !== account || account === '') continue;
    if (outcome === 'hung' || other.outcome === 'hung' || other.startedAt >= (write.endedAt ?? Infinity)) continue;
    problems.push(`${other.by}'s ${other.action} began during ${what}`);
  }
  if (past.foreign.includes(write.associationId)) problems.push(`${what}: another tool's association`);
  const { clientRequestToken: token, roleArn: role } = body;
  if (action.startsWith('Create') && !past.tokens.some((one) => one.token === token && one.at <= startedAt)) {
    problems.push(`${what} with a token that was not published before`);
  }
  if (outcome !== 'ok' && outcome !== 'answer-lost') return problems;
  const givenBefore = usersOf(past.mutations, startedAt, account);
  const givenAfter = usersOf(past.mutations, endedAt, account);
  const given = givenBefore.filter((user) => givenAfter.includes(user));
  if (action.startsWith('Delete')) {
    if (given.length > 0) problems.push(`${what} while the Mutation gave it to ${given.join()}`);
  } else {
    for (const user of given) {
      const isMapped = anyMapping(
        facts,
        endedAt,
        (mapped, name) => name === user && mapped.account === account && mapped.role === role,
      );
      if (!isMapped) problems.push(`${what} gave ${user} the role ${String(role)}, which nobody mapped to that user`);
    }
  }
  return problems;
}

/** The user who had the account by a replica's Mutation at that moment; none where another tool overwrote it. */
function usersOf(mutations: readonly MutationVersion[], at: number, account: string): string[] {
  const version = mutations.findLast((one) => one.at <= at);
  if (!version || version.byHand) return [];
  return version.users.filter(([, given]) => given === account).map(([user]) => user);
}
