/** Proves how a trust policy is edited: each awkward document is a JSON case, and adding one needs no code here. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { editTrustPolicy, readTrustPolicy, type TrustScope, trustPolicySize } from '../../src/trust-policy/document.ts';
import { podEntry, podTrustSid } from '../../src/trust-policy/pod-identity.ts';
import { letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { placeholderSubject } from '../../src/trust-policy/subjects.ts';

interface Case {
  title: string;
  why: string;
  /** The document, or its text as IAM returns it. */
  before: object | string;
  /** Left out where the service does not manage the part for web identity. */
  members?: string[];
  /** Left out where the service does not manage the part for EKS Pod Identity. */
  pods?: { accounts: string[]; open: boolean };
  keep: string[];
  maxChars: number;
  after: object | 'unchanged' | { refused: string };
  /** The subjects that admit more than one service account, before and after; none where it is left out. */
  open?: (string | null)[];
}

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE';
const scope: TrustScope = {
  issuer,
  audience: 'sts.amazonaws.com',
  providerArn: `arn:aws:iam::111111111111:oidc-provider/${issuer}`,
  namespace: 'domino-compute',
  cluster: 'arn:aws:eks:us-west-2:111111111111:cluster/acme',
};
const folder = join(import.meta.dirname, '..', 'cases', 'trust-policy');

interface Statement {
  Effect?: string;
  Condition?: Record<string, Record<string, string | string[]>>;
}

function statementsOf(text: string): Statement[] {
  const { Statement: statement } = JSON.parse(text) as { Statement: Statement | Statement[] };
  return [statement].flat();
}

function isPodStatement(statement: object): boolean {
  return 'Sid' in statement && String(statement.Sid).startsWith(podTrustSid);
}

/** The placeholder stands where all subjects were managed. */
function withoutOurSubjects(
  { Effect: effect, Condition: condition = {}, ...rest }: Statement,
  keep: readonly string[],
): Statement {
  const isOurs = (value: string) =>
    /^\*(:domino-compute:[a-z0-9.-]+|[0-9a-f]{24})$/.test(value) && !keep.some((account) => value.endsWith(account));
  const left = (values: string[]) => values.filter((value) => !isOurs(value));
  const cleaned = Object.entries(condition).map(([operator, keys]) => [
    operator,
    Object.fromEntries(
      Object.entries(keys).map(([key, value]) => {
        const values = [value].flat();
        const isTouched = effect === 'Allow' && !operator.includes('Not') && values.some(isOurs);
        return [key, isTouched ? (left(values).length > 0 ? left(values) : [placeholderSubject]) : value];
      }),
    ),
  ]);
  return { Effect: effect ?? '', ...rest, Condition: Object.fromEntries(cleaned) };
}

/** The statement's values for a key, under any operator. */
function valuesOf(statement: Statement, key: string): (string | string[])[] {
  return Object.values(statement.Condition ?? {}).flatMap((keys) =>
    Object.entries(keys).flatMap(([name, value]) => (name.toLowerCase() === key.toLowerCase() ? [value] : [])),
  );
}

describe('trust policy: cases', () => {
  const files = readdirSync(folder).filter((name) => name.endsWith('.json'));
  assert.ok(files.length > 0, 'there are no cases');

  for (const file of files) {
    const {
      title,
      why,
      before,
      members,
      keep,
      maxChars,
      after,
      open = [],
      ...rest
    } = JSON.parse(readFileSync(join(folder, file), 'utf8')) as Case;
    const pods = rest.pods && { ...rest.pods, accounts: new Set(rest.pods.accounts) };

    it(`${title} (${basename(file, '.json')}: ${why})`, () => {
      const text = typeof before === 'string' ? before : JSON.stringify(before);
      const kept = (account: string) => keep.includes(account);
      const edit = editTrustPolicy(scope, text, members, kept, maxChars, pods);
      if (edit.kind === 'refused') {
        assert.deepEqual({ refused: edit.code }, after);
        return;
      }
      const result = edit.kind === 'unchanged' ? text : edit.document;
      assert.deepEqual(edit.kind === 'unchanged' ? 'unchanged' : JSON.parse(result), after);
      assert.deepEqual(JSON.parse(edit.document), JSON.parse(result));
      assert.equal(edit.size, trustPolicySize(edit.document));
      assert.match(edit.document, /^[\x20-\x7e]+$/, 'IAM accepts ASCII, with escapes for the rest');

      assert.deepEqual(
        openSubjects(scope, result).map(({ subject }) => subject ?? null),
        open,
      );
      for (const account of members ?? []) assert.ok(letsIn(scope, result, account), account);

      const again = editTrustPolicy(scope, result, members, kept, maxChars, pods);
      assert.equal(again.kind, 'unchanged', 'a second edit changes nothing');
      const view = readTrustPolicy(scope, result, { members: members !== undefined, pods });
      assert.ok(view.kind === 'read');
      if (pods) {
        const expected = pods.accounts.size === 0 ? [] : pods.open ? ['*'] : [...pods.accounts];
        const entries = [...view.subjects].filter((subject) => subject.startsWith(podEntry('')));
        assert.deepEqual(entries.sort(), expected.map(podEntry).sort());
      }
      if (members && members.length > 0)
        assert.deepEqual(
          members.filter((account) => !view.accounts.has(account)),
          [],
        );

      const others = [...statementsOf(text), ...statementsOf(text).map((one) => withoutOurSubjects(one, keep))];
      const ours = statementsOf(result).filter(
        (statement) => !isPodStatement(statement) && !others.some((other) => isDeepStrictEqual(other, statement)),
      );
      assert.ok(ours.length <= 1, 'only one statement is changed other than by removing managed subjects');
      for (const statement of ours) {
        assert.doesNotMatch(JSON.stringify(statement), /\[\]/, 'invariant 4: no empty list');
        assert.equal(valuesOf(statement, `${issuer}:sub`).length, 1, 'invariant 4: a subject');
        assert.equal(valuesOf(statement, `${issuer}:aud`).length, 1, 'invariant 4: an audience');
      }
    });
  }
});

describe('trust policy: reading a document', () => {
  const document = (subjects: string[]) =>
    JSON.stringify({
      Version: '2012-10-17',
      Statement: {
        Effect: 'Allow',
        Principal: { Federated: scope.providerArn },
        Action: 'sts:AssumeRoleWithWebIdentity',
        Condition: { StringLike: { [`${issuer}:aud`]: scope.audience, [`${issuer}:sub`]: subjects } },
      },
    });

  it('finds each managed account once, and no other', () => {
    const view = readTrustPolicy(
      scope,
      document([
        '*:domino-compute:run-646d27b817c28b5ea4b5b0c1',
        '*646d27b817c28b5ea4b5b0c1',
        '*:domino-compute:alice',
        '*:domino-compute:*',
        '*:other:bob',
        '',
        placeholderSubject,
      ]),
    );
    assert.ok(view.kind === 'read');
    assert.deepEqual([...view.accounts].sort(), ['alice', 'run-646d27b817c28b5ea4b5b0c1']);
  });

  it('refuses a text that is not a trust policy', () => {
    for (const text of ['', 'x', '1', 'null', '[]', '{}', '{"Statement":[1]}', '{"Statement":null}']) {
      const view = readTrustPolicy(scope, text);
      assert.deepEqual([view.kind, view.kind === 'refused' && view.code], ['refused', 'malformed_trust_policy'], text);
    }
  });

  it('throws for a member whose name is not DNS-1123, which callers have to check', () => {
    for (const name of [
      '*',
      'run-?',
      ['$', '{aws:username}'].join(''),
      '',
      'A',
      'a b',
      'a"b',
      '-a',
      'a-',
      'a..b',
      'a\n',
    ]) {
      assert.throws(() => editTrustPolicy(scope, document(['']), [name], () => false, 2048), RangeError, name);
    }
  });

  it('invariant 8: the documented number of runs fits each quota', () => {
    for (const [maxChars, runs] of [
      [2048, 33],
      [4096, 75],
      [8192, 161],
    ] as const) {
      const members = (count: number) =>
        Array.from({ length: count }, (_, index) => `run-${index.toString(16).padStart(24, '0')}`);
      const fits = (count: number) =>
        editTrustPolicy(scope, document(['']), members(count), () => false, maxChars).kind === 'changed';
      assert.ok(fits(runs), `${runs} runs in ${maxChars} characters`);
      assert.ok(!fits(runs + 6), `not many more than ${runs} runs in ${maxChars} characters`);
    }
  });
});
