/** Owns what must be true, by the clients' answers and the cluster's objects. Pure, and apart from the service. */
import { accountsIn, type Document, documentProblems } from './documents.ts';

/** One mapping of an organization: a target role with one of its proxy roles. */
export interface Way {
  org: string;
  target: string;
  proxy: string;
}

export interface RunFacts {
  id: string;
  /** The organizations of the user who started it. */
  orgs: readonly string[];
  accounts: readonly string[];
  /** When it first requested roles; undefined: never. Milliseconds since the epoch, like all times here. */
  askedAt: number | undefined;
  endedAt: number | undefined;
  answers: Answer[];
}

/** A 200, with what its config text named. */
export interface Answer {
  at: number;
  profiles: { target: string; proxy: string }[];
  /** Index of the mappings in force when the oldest request was sent that may still count. */
  since: number;
  /** Index of the newest mappings when the answer came. */
  until: number;
}

export interface RoleVersion {
  at: number;
  /** A replica's name; a name that does not begin with `replica` is another writer's. */
  by: string;
  document: Document;
}

export interface RoleFacts {
  arn: string;
  original: Document;
  /** Oldest first. */
  history: RoleVersion[];
}

export interface Facts {
  issuer: string;
  runs: readonly RunFacts[];
  roles: readonly RoleFacts[];
  /** Every state that the mappings had or may have had, oldest first. */
  mappings: readonly (readonly Way[])[];
}

export interface Write {
  role: string;
  by: string;
  startedAt: number;
  endedAt?: number;
  outcome?: string;
}

const isReplica = ({ by }: { by: string }) => by.startsWith('replica');

function allowed(ways: readonly Way[], run: RunFacts, target: string | undefined, proxy: string): boolean {
  return ways.some(
    (way) => run.orgs.includes(way.org) && way.proxy === proxy && (target === undefined || way.target === target),
  );
}

/** Whether the mappings gave the run this role all the time, from the answer's oldest request until `until`. */
function allowedThroughout(facts: Facts, run: RunFacts, answer: Answer, profile: Answer['profiles'][0], until: number) {
  const states = facts.mappings.slice(answer.since, until + 1);
  return states.every((ways) => allowed(ways, run, profile.target, profile.proxy));
}

/** What is not right (yet) once the system is quiet: missing members, and members that should not be there. */
export function settledProblems(facts: Facts): string[] {
  const problems: string[] = [];
  const now = facts.mappings.at(-1) ?? [];
  for (const { arn, original, history } of facts.roles) {
    const newest = history.at(-1);
    if (!newest) continue;
    const inside = accountsIn(newest.document, facts.issuer);
    for (const run of facts.runs) {
      const answer = run.answers.at(-1);
      if (!answer || run.endedAt !== undefined) continue;
      const profile = answer.profiles.find(({ proxy }) => proxy === arn);
      if (!profile || !allowedThroughout(facts, run, answer, profile, facts.mappings.length - 1)) continue;
      for (const account of run.accounts) {
        if (!inside.has(account)) problems.push(`${account} had a 200 and is not in ${arn}`);
      }
    }
    for (const account of inside) {
      const own = facts.runs.filter(({ accounts }) => accounts.includes(account));
      const live = own.find(({ endedAt }) => endedAt === undefined);
      if (!live) problems.push(`${account} is in ${arn}, and its run has ended`);
      else if (own.every(({ askedAt }) => askedAt === undefined)) problems.push(`${account} is in ${arn} unasked`);
      else if (!allowed(now, live, undefined, arn)) problems.push(`${account} is in ${arn}, which nothing maps it to`);
    }
    problems.push(...documentProblems(newest.document, original, facts.issuer).map((problem) => `${arn}: ${problem}`));
  }
  return problems;
}

/** What should never have happened: an answer that was not true, a grant lost for a while, a bad document. */
export function pastProblems(facts: Facts): string[] {
  return facts.roles.flatMap((role) => {
    const written = role.history.filter(isReplica);
    const sets = written.map(({ document }) => accountsIn(document, facts.issuer));
    const bad = written.flatMap(({ document, by, at }) =>
      documentProblems(document, role.original, facts.issuer).map((what) => `${role.arn} by ${by} at ${at}: ${what}`),
    );
    return [...bad, ...unasked(facts, role.arn, written, sets), ...untrue(facts, role.arn, written, sets)];
  });
}

function unasked(facts: Facts, arn: string, written: RoleVersion[], sets: Set<string>[]): string[] {
  const askedAt = new Map<string, number>();
  for (const run of facts.runs) {
    for (const account of run.accounts) {
      askedAt.set(account, Math.min(askedAt.get(account) ?? Infinity, run.askedAt ?? Infinity));
    }
  }
  return written.flatMap(({ at, by }, index) =>
    [...(sets[index] ?? [])]
      .filter((account) => (askedAt.get(account) ?? Infinity) > at)
      .map((account) => `${by} let ${account} into ${arn} before it asked`),
  );
}

function untrue(facts: Facts, arn: string, written: RoleVersion[], sets: Set<string>[]): string[] {
  const problems: string[] = [];
  for (const run of facts.runs) {
    for (const [index, answer] of run.answers.entries()) {
      const profile = answer.profiles.find(({ proxy }) => proxy === arn);
      if (!profile || !allowedThroughout(facts, run, answer, profile, answer.until)) continue;
      if (run.endedAt !== undefined && run.endedAt <= answer.at) continue;
      const last = written.findLastIndex(({ at }) => at <= answer.at);
      for (const [place, account] of run.accounts.entries()) {
        // A new pod with another service account may not be known yet: that account becomes a member a little later.
        const first = place === 0 ? last : written.findIndex((_, each) => each >= last && sets[each]?.has(account));
        if (!sets[first]?.has(account)) {
          if (place === 0) problems.push(`a 200 for ${account} was not true: it was not in ${arn}`);
          continue;
        }
        // From the next answer on, that answer counts.
        if (index < run.answers.length - 1) continue;
        if (!allowedThroughout(facts, run, answer, profile, facts.mappings.length - 1)) continue;
        const lost = written.find(
          ({ at }, each) => each > first && at < (run.endedAt ?? Infinity) && !sets[each]?.has(account),
        );
        if (lost) problems.push(`${lost.by} dropped ${account} from ${arn}, ${lost.at - answer.at} ms after its 200`);
      }
    }
  }
  return problems;
}

/** Writes of one role that two replicas had under way at the same time. A hung write never arrived. */
export function overlapProblems(writes: readonly Write[]): string[] {
  const problems: string[] = [];
  for (const [index, one] of writes.entries()) {
    for (const other of writes.slice(index + 1)) {
      if (one.role !== other.role || one.by === other.by) continue;
      if (one.outcome === 'hung' || other.outcome === 'hung') continue;
      const gap = other.startedAt - (one.endedAt ?? Infinity);
      if (gap < 0) problems.push(`${other.by} wrote ${one.role} while a write of ${one.by} was on its way, ${-gap} ms`);
    }
  }
  return problems;
}
