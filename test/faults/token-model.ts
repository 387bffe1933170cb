/** Owns what must be true of role tokens, by the clients' requests and answers, and by what STS and IAM show. Pure. */
import { isDeepStrictEqual } from 'node:util';
import { type Document, documentProblems } from './documents.ts';
import type { RoleVersion } from './model.ts';

/** How a mapping gives a role; `none`: there is no mapping. */
export type Carrier = 'token' | 'entry' | 'none';

export interface TokenRole {
  name: string;
  arn: string;
  target: string;
  /** The organization that is mapped to this role alone. */
  org: string;
  original: Document;
}

/** The mappings between two changes. Times are milliseconds since the epoch. */
export interface Carriers {
  sentAt: number;
  /** When the service confirmed the change with 200. */
  confirmedAt: number | undefined;
  /** By organization. */
  of: Readonly<Record<string, Carrier>>;
}

export interface TokenRun {
  id: string;
  account: string;
  pod: string;
  user: string;
  orgs: readonly string[];
  /** Its pod and its service account were gone by then. */
  endedAt: number | undefined;
  /** The revocation that is in force or being made. */
  revoked: Revocation | undefined;
  /** All of them, oldest first. */
  revocations: Revocation[];
}

export interface Revocation {
  sentAt: number;
  confirmedAt: number | undefined;
  /** When STS refused every token that the run had. */
  outAt: number | undefined;
  /** When an administrator first asked to allow the run again: from then on the revocation may be over. */
  allowSentAt: number | undefined;
  /** When the service confirmed that it is over. */
  allowedAt: number | undefined;
}

/** A token that a client was given. */
export interface Given {
  run: TokenRun;
  /** The user who asked. */
  by: string;
  role: TokenRole;
  token: string;
  sentAt: number;
  at: number;
  /** By the clocks of the API server and of AWS. */
  expiresAt: number;
}

export interface TokenFacts {
  issuer: string;
  roles: readonly TokenRole[];
  /** Oldest first. */
  carriers: readonly Carriers[];
  given: readonly Given[];
  /** Of each role, oldest first. */
  histories: readonly (readonly RoleVersion[])[];
  runs: readonly TokenRun[];
  /** How much time the suite had added for tokens by that moment. */
  passedMs: (at: number) => number;
  /** How long a replica may go without knowing of a change, where the API server is slow to send it. */
  graceMs: number;
}

interface Statement {
  Sid?: string;
  Condition?: Record<string, Record<string, string | string[]>>;
}

const allowSid = 'IrsaRoleTokens';
const denySid = 'IrsaRevokedRoleTokens';

export const audienceOf = ({ name }: Pick<TokenRole, 'name'>) => `irsa/${name}`;

function statementsOf(document: Document): Statement[] {
  return [document.Statement as Statement | Statement[]].flat();
}

function allowFor(role: TokenRole, issuer: string) {
  return {
    Sid: allowSid,
    Effect: 'Allow',
    Principal: { Federated: `arn:aws:iam::${role.arn.split(':')[4]}:oidc-provider/${issuer}` },
    Action: 'sts:AssumeRoleWithWebIdentity',
    Condition: {
      StringEquals: { [`${issuer}:aud`]: audienceOf(role) },
      StringLike: { [`${issuer}:sub`]: 'system:serviceaccount:domino-compute:*' },
    },
  };
}

/** Whether the document admits the role's tokens. */
export function isOpen(document: Document, role: TokenRole, issuer: string): boolean {
  return statementsOf(document).some((one) => isDeepStrictEqual(one, allowFor(role, issuer)));
}

function accountsDenied(document: Document, issuer: string): Set<string> {
  const denials = statementsOf(document).filter(({ Sid }) => Sid === denySid);
  const subjects = denials.flatMap(({ Condition }) => Condition?.StringLike?.[`${issuer}:sub`] ?? []);
  return new Set(subjects.flatMap((subject) => /^\*(?:.*:run-)?([0-9a-f]{24})$/.exec(subject)?.[1] ?? []));
}

/** Whether IAM's document refuses the run, which STS may see later. */
export function isKeptOut(run: TokenRun, role: TokenRole, { roles, histories, issuer }: TokenFacts): boolean {
  const document = histories[roles.indexOf(role)]?.at(-1)?.document;
  return document !== undefined && (!isOpen(document, role, issuer) || accountsDenied(document, issuer).has(run.id));
}

/** What is wrong with a document that a replica wrote. */
function writtenProblems(document: Document, role: TokenRole, issuer: string): string[] {
  const isTokens = ({ Sid }: Statement) => Sid === allowSid || Sid === denySid;
  const own = statementsOf(document).filter(isTokens);
  const others = { ...document, Statement: statementsOf(document).filter((one) => !isTokens(one)) };
  const problems = documentProblems(others, role.original, issuer);
  const allowed = own.filter(({ Sid }) => Sid === allowSid);
  if (allowed.length > 1 || allowed.some((one) => !isDeepStrictEqual(one, allowFor(role, issuer))))
    problems.push(`a statement for tokens that is not the role’s: ${JSON.stringify(allowed)}`);
  if (JSON.stringify(others).includes('"irsa/')) problems.push('a statement of another name lets tokens in');
  return problems;
}

/** The events of a run and a role, in milliseconds from the run's first token, to show why something is wrong. */
export function story(run: TokenRun, role: TokenRole, facts: TokenFacts): string {
  const given = facts.given.filter((one) => one.run === run && one.role === role);
  const versions = facts.histories[facts.roles.indexOf(role)] ?? [];
  const events: [number | undefined, string][] = [
    [given.at(-1)?.at, 'last token'],
    ...run.revocations.flatMap(({ sentAt, confirmedAt, allowSentAt, allowedAt }): [number | undefined, string][] => [
      [sentAt, 'revoke'],
      [confirmedAt, 'revoked'],
      [allowSentAt, 'allow'],
      [allowedAt, 'allowed'],
    ]),
    [run.endedAt, 'ended'],
    ...facts.carriers.map(({ sentAt, of }): [number, string] => [sentAt, `map ${of[role.org]}`]),
    ...versions.map(({ at, by, document }): [number, string] => {
      const isDenied = accountsDenied(document, facts.issuer).has(run.id);
      return [at, `${by}: ${isOpen(document, role, facts.issuer) ? 'open' : 'shut'}${isDenied ? ', denied' : ''}`];
    }),
  ];
  const start = given[0]?.at ?? 0;
  const known = events.flatMap(([at, what]) => (at === undefined ? [] : [{ at: at - start, what }]));
  const sorted = known.sort((a, b) => a.at - b.at).filter(({ what }, index, all) => what !== all[index - 1]?.what);
  return sorted.map(({ at, what }) => `${at} ${what}`).join('; ');
}

/** Why the user who asked had no right to the role at any time between the request and the answer; undefined where the user may have had one. */
export function whyNoRight({ run, role, by, sentAt, at }: Given, facts: TokenFacts): string | undefined {
  if (by !== run.user) return `${by} did not start the run`;
  if (!run.orgs.includes(role.org)) return `${by} is not in ${role.org}`;
  if (run.endedAt !== undefined && run.endedAt <= sentAt) return 'the run had ended';
  const since = sentAt - facts.graceMs;
  const wasOut = ({ confirmedAt = Infinity, allowSentAt = Infinity }: Revocation) =>
    confirmedAt <= since && allowSentAt > at;
  if (run.revocations.some(wasOut)) return 'the run was revoked';
  const mayHold = facts.carriers.filter((one, index) => {
    const over = facts.carriers.slice(index + 1).find(({ confirmedAt }) => confirmedAt !== undefined)?.confirmedAt;
    return one.sentAt <= at && (over ?? Infinity) >= since;
  });
  if (!mayHold.some(({ of }) => of[role.org] === 'token')) return `no mapping gave it by tokens`;
  return undefined;
}

/** What should never have happened: a token without a right to it, a bad document, a Deny removed too early. */
export function tokenPastProblems(facts: TokenFacts): string[] {
  const stolen = facts.given.flatMap((one) => {
    const reason = whyNoRight(one, facts);
    return reason === undefined ? [] : [`run ${one.run.id} was given a token of ${one.role.name}, and ${reason}`];
  });
  const forged = facts.given.flatMap((one) => {
    const { sub, aud } = claimsOf(one.token);
    const isOwn = sub === `system:serviceaccount:domino-compute:${one.run.account}`;
    const isRoles = isDeepStrictEqual([aud].flat(), [audienceOf(one.role)]);
    return isOwn && isRoles ? [] : [`run ${one.run.id} was given a token of ${sub} for ${aud}`];
  });
  const written = facts.roles.flatMap((role, index) => {
    const versions = (facts.histories[index] ?? []).filter(({ by }) => by.startsWith('replica'));
    const bad = versions.flatMap(({ document, by, at }) =>
      writtenProblems(document, role, facts.issuer).map((what) => `${role.name} by ${by} at ${at}: ${what}`),
    );
    return [...bad, ...lifted(facts, role, versions)];
  });
  return [...stolen, ...forged, ...written];
}

/** Denies that were removed while the statement still admitted a token that had not expired. */
function lifted(facts: TokenFacts, role: TokenRole, versions: readonly RoleVersion[]): string[] {
  const all = facts.runs.flatMap((run) => run.revocations.map((revoked) => ({ run, revoked })));
  return all.flatMap(({ run, revoked }) => {
    const { id } = run;
    const { sentAt, allowSentAt = Infinity } = revoked;
    const isDenied = ({ document }: RoleVersion) => accountsDenied(document, facts.issuer).has(id);
    const first = versions.findIndex((one) => one.at >= sentAt && one.at < allowSentAt && isDenied(one));
    if (first < 0) return [];
    const tokens = facts.given.filter((one) => one.run.id === id && one.role === role);
    const early = versions
      .slice(first + 1)
      .find(
        (one) =>
          one.at < allowSentAt &&
          isOpen(one.document, role, facts.issuer) &&
          !isDenied(one) &&
          tokens.some(({ expiresAt }) => expiresAt > one.at + facts.passedMs(one.at)),
      );
    if (!early) return [];
    return [`${early.by} let the tokens of the revoked run ${id} into ${role.name} again: ${story(run, role, facts)}`];
  });
}

function claimsOf(token: string): { sub?: string; aud?: string | string[] } {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as { sub?: string };
}

/** Whether STS has to accept a token once the system is quiet; undefined where both answers are right. */
export function shouldTake(one: Given, facts: TokenFacts, now: number): boolean | undefined {
  const { run, role } = one;
  if (one.expiresAt <= now + facts.passedMs(now)) return false;
  if (run.revoked) return false;
  const carrier = facts.carriers.at(-1)?.of[role.org];
  if (carrier === 'none') return false;
  if (run.endedAt !== undefined) return undefined;
  // STS still accepts it where the role moved to entries, unless the role had no mapping in between.
  const since = facts.carriers.findLast(({ of }) => of[role.org] === 'none');
  return carrier === 'token' || !since || since.sentAt < one.sentAt ? true : undefined;
}
