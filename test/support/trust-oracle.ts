/** Owns the expected result of an edit of any trust policy, by IAM's semantics; it shares no code with the editor. */
import assert from 'node:assert/strict';
import { isDeepStrictEqual } from 'node:util';
import { conditionContext } from '../stack/aws-conditions.ts';
import { evaluateTrust, type TrustRequest, type Verdict } from '../stack/aws-trust.ts';
import { github } from './trust-documents.ts';
import { accounts, aud, type Statement, scope, sub } from './trust-policies.ts';

const placeholder = 'irsa-svc:no-live-runs';
/** Service accounts that no document names: a statement that admits one of these is open to others. */
export const strangers = ['mallory', `run-${'e'.repeat(24)}`];

interface Case {
  /** The service account, where the token is from the compute namespace. */
  account?: string;
  audience?: string;
  request: TrustRequest;
}

const vault = 'https://vault.example';
const federated = (provider: string) => ({ kind: 'federated', provider }) as const;
const token = (namespace: string, account: string, audience: string, more = {}): Case => ({
  ...(namespace === scope.namespace ? { account } : {}),
  audience,
  request: {
    action: 'sts:AssumeRoleWithWebIdentity',
    requester: federated(scope.providerArn),
    context: conditionContext({
      [sub]: `system:serviceaccount:${namespace}:${account}`,
      [aud]: audience,
      'aws:SecureTransport': 'true',
      ...more,
    }),
  },
});
const stranger = (action: string, requester: TrustRequest['requester'], context = {}): Case => ({
  request: { action, requester, context: conditionContext(context) },
});

/** All requests: tokens from the compute namespace and others, with our audience and others, and requesters without such a token. */
export const cases: readonly Case[] = [
  ...[...accounts, ...strangers].map((account) => token('domino-compute', account, scope.audience)),
  ...['alice', `run-${'1'.repeat(24)}`, 'mallory'].flatMap((account) => [
    token('domino-compute', account, scope.audience, { 'aws:SourceVpc': 'vpc-0123456789abcdef0' }),
    token('domino-compute', account, vault),
  ]),
  ...[scope.audience, vault].map((audience) => token('prod', 'api', audience)),
  token('other', 'alice', scope.audience),
  stranger('sts:AssumeRoleWithWebIdentity', federated(github), {
    'token.actions.githubusercontent.com:sub': 'repo:x/y',
    'token.actions.githubusercontent.com:aud': scope.audience,
  }),
  stranger('sts:AssumeRole', { kind: 'aws', account: '333333333333', arn: 'arn:aws:iam::333333333333:user/x' }),
  stranger('sts:AssumeRole', { kind: 'service', name: 'pods.eks.amazonaws.com' }),
];

export type Verdicts = { reading: string; verdicts: readonly Verdict[] }[];
const requests = {
  everybody: cases.map(({ request }) => request),
  nobody: cases.map(({ request }): TrustRequest => ({ ...request, emptyLists: 'nobody' })),
};
/** A cache by statement, since most statements are the same before and after. */
const known = new Map<string, readonly Verdict[]>();

/** IAM's verdict for each case. A document with an empty list is judged in both readings, since AWS's texts contradict each other. */
export function judge(document: Record<string, unknown>): Verdicts {
  const texts = statementsOf(document).map((one) => JSON.stringify(one));
  const readings = texts.some((text) => text.includes('[]'))
    ? (['everybody', 'nobody'] as const)
    : (['everybody'] as const);
  return readings.map((reading) => {
    const each = texts.map((text) => verdictsOf(document.Version, text, reading));
    // One Deny wins; otherwise one Allow is enough.
    const verdicts = cases.map((_, at): Verdict => {
      let verdict: Verdict = 'no-match';
      for (const list of each) {
        if (list[at] === 'denied') return 'denied';
        if (list[at] === 'allowed') verdict = 'allowed';
      }
      return verdict;
    });
    return { reading, verdicts };
  });
}

function verdictsOf(version: unknown, statement: string, emptyLists: 'everybody' | 'nobody'): readonly Verdict[] {
  const key = `${version} ${emptyLists} ${statement}`;
  const before = known.get(key);
  if (before) return before;
  const alone = { Version: version, Statement: [JSON.parse(statement)] };
  const found = requests[emptyLists].map((request) => evaluateTrust(alone, request));
  if (known.size > 1_000) known.clear();
  known.set(key, found);
  return found;
}

export const statementsOf = (document: unknown) =>
  [(document as { Statement: Statement | Statement[] }).Statement].flat();

/** The service account that a managed subject names. */
export function accountOf(subject: unknown): string | undefined {
  const found = /^\*(?::domino-compute:([a-z0-9.-]+)|([0-9a-f]{24}))$/.exec(String(subject));
  return found ? (found[1] ?? `run-${found[2]}`) : undefined;
}

type Condition = Record<string, Record<string, unknown>>;

/** The lists of subjects whose matches are admitted. */
export function listsOf(statement: Statement): { operator: string; key: string; values: unknown[] }[] {
  return Object.entries((statement.Condition ?? {}) as Condition).flatMap(([operator, keys]) =>
    operator === 'Null' || operator.includes('Not')
      ? []
      : Object.entries(keys).flatMap(([key, value]) =>
          key.toLowerCase() === sub.toLowerCase() ? [{ operator, key, values: [value].flat() }] : [],
        ),
  );
}

/** Whether the statement may apply to web identities of the cluster's provider. */
function isForUs({ Effect: effect, Principal: principal }: Statement): boolean {
  if (effect !== 'Allow') return false;
  if (principal === undefined || principal === '*') return true;
  const { Federated: providers, AWS: named } = principal as Record<string, unknown>;
  return [providers].flat().some((one) => one === scope.providerArn || one === '*') || [named].flat().includes('*');
}

/** The statement without managed subjects, except those of accounts that stay. */
export function stripped(statement: Statement, stays: (account: string) => boolean): Statement {
  if (!isForUs(statement)) return statement;
  const condition = structuredClone(statement.Condition) as Condition;
  for (const { operator, key, values } of listsOf(statement)) {
    const left = values.filter((value) => {
      const account = accountOf(value);
      return account === undefined || stays(account);
    });
    const keys = condition[operator];
    if (left.length < values.length && keys) keys[key] = left.length > 0 ? left : [placeholder];
  }
  return condition ? { ...statement, Condition: condition } : statement;
}

export interface Edited {
  before: Record<string, unknown>;
  after: Record<string, unknown>;
  members: readonly string[];
  keep: readonly string[];
}

/** Checks the document after an edit, whatever it was before. */
export function checkEdit({ before, after, members, keep }: Edited): void {
  const stays = (account: string) => keep.includes(account) && !members.includes(account);
  const [was, is] = [statementsOf(before), statementsOf(after)];
  assert.deepEqual({ ...after, Statement: 0 }, { ...before, Statement: 0 });
  assert.ok(is.length === was.length || is.length === was.length + 1, 'at most one statement is added');
  const cleaned = was.map((one) => stripped(one, stays));
  const touched = is.flatMap((one, index) => (isDeepStrictEqual(one, cleaned[index]) ? [] : [index]));
  assert.ok(touched.length <= 1, 'except for managed subjects, only the service’s own statement changes');
  const [home] = touched;
  if (home !== undefined) checkHome(was[home], is[home] as Statement);
  for (const one of is.filter(isForUs)) {
    const named = listsOf(one).flatMap(({ values }) => values.flatMap((value) => accountOf(value) ?? []));
    assert.deepEqual(
      named.filter((account) => !members.includes(account) && !stays(account)),
      [],
    );
  }
  // A statement of the service that was open to all, since it had no subject, must be closed. Invariant 4.
  const wasOpen =
    home !== undefined && was[home] !== undefined && listsOf(was[home]).every(({ values }) => values.length === 0);
  const expected = { ...before, Statement: wasOpen ? cleaned.toSpliced(home, 1) : cleaned };
  const [found, without] = [judge(after), judge(expected)];
  // A statement of the service without an audience gets one, also for accounts that stay without a request.
  const isOpenToKept = home !== undefined && was[home] !== undefined && audiencesOf(was[home]).length === 0;
  for (const [index, { reading, verdicts }] of without.entries()) {
    const results = (found[index] ?? found[0])?.verdicts;
    for (const [at, one] of cases.entries()) {
      if (isOpenToKept && one.account !== undefined && stays(one.account)) continue;
      const wanted = one.account !== undefined && members.includes(one.account);
      const isMember = wanted && verdicts[at] === 'no-match';
      // The service's statement may have another audience beside its own.
      if (isMember && one.audience !== scope.audience) continue;
      const right = isMember ? 'allowed' : verdicts[at];
      if (results?.[at] !== right)
        assert.fail(`${JSON.stringify(one)}, [] read as ${reading}: ${results?.[at]}, not ${right}`);
    }
  }
}

/** Checks the service's statement: one subject list, the service's audience, and unchanged unmanaged subjects. */
function checkHome(was: Statement | undefined, is: Statement): void {
  assert.equal(is.Effect, 'Allow');
  assert.doesNotMatch(JSON.stringify(is), /\[\]/);
  const [list, ...more] = listsOf(is);
  assert.deepEqual([list?.operator, more], ['StringLike', []]);
  const audiences = audiencesOf(is);
  assert.ok(audiences.includes(scope.audience));
  assert.ok(
    !audiences.some((one) => /[*?$]/.test(String(one))),
    'the service adopts no statement with an audience pattern',
  );
  const others = (one: Statement) => listsOf(one).flatMap(({ values }) => values.filter(isOthers));
  if (was && others(was).length > 0) assert.deepEqual(others(is), others(was));
}

function audiencesOf({ Condition: condition = {} }: Statement): unknown[] {
  return Object.values(condition as Condition).flatMap((keys) =>
    Object.entries(keys).flatMap(([key, value]) => (key.toLowerCase() === aud.toLowerCase() ? [value].flat() : [])),
  );
}

function isOthers(subject: unknown): boolean {
  return subject !== '' && subject !== placeholder && accountOf(subject) === undefined;
}
