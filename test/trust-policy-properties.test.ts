/** Proves what holds for the edit of any trust policy, by documents and edits that fast-check makes up. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { managedAccount, memberCost } from '../src/subjects.ts';
import { editTrustPolicy, readTrustPolicy, type TrustScope, trustPolicySize } from '../src/trust-policy.ts';
import { conditionContext } from './stack/aws-conditions.ts';
import { evaluateTrust } from './stack/aws-trust.ts';

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE';
const scope: TrustScope = {
  issuer,
  audience: 'sts.amazonaws.com',
  providerArn: `arn:aws:iam::111111111111:oidc-provider/${issuer}`,
  namespace: 'domino-compute',
};
const sub = `${issuer}:sub`;
const aud = `${issuer}:aud`;
const action = 'sts:AssumeRoleWithWebIdentity';
const plenty = 100_000;
const nobody = () => false;

type Statement = Record<string, unknown>;
type Document = { Statement: Statement[] } & Record<string, unknown>;

const accounts = [
  ...[1, 2, 3, 4].map((index) => `run-${String(index).repeat(24)}`),
  'alice',
  'svc-user-1-sa',
  'a',
  'ray-646d27b817c28b5ea4b5b0c1-ray',
  'x.y.z',
];
const someAccounts = fc.subarray(accounts);

/** Subjects that we never write; none of them lets an account of the list above in. */
const foreignSubject = fc.constantFrom(
  'system:serviceaccount:other:x',
  '*:domino-compute:*-admin',
  '*:other:alice',
  'system:serviceaccount:domino-compute:bob',
  '*ABC',
  '*:domino-compute:run-?',
  '*:domino-compute:Alice',
);

const managedSubject = fc.oneof(
  fc.constantFrom(...accounts).map((account) => `*:domino-compute:${account}`),
  fc.constantFrom('', 'irsa-svc:no-live-runs', `*${'1'.repeat(24)}`, `*${'2'.repeat(24)}`, `*${'9'.repeat(24)}`),
);

/** Names and values as anybody may write them, `__proto__` among them, but no numbers that JSON does not carry. */
const anything = fc.jsonValue({ maxDepth: 2 }).map((value) => JSON.parse(JSON.stringify(value)) as unknown);

const ours = (condition: object, more: object = {}): Statement => ({
  Effect: 'Allow',
  Principal: { Federated: scope.providerArn },
  Action: action,
  Condition: condition,
  ...more,
});

const like = (subjects: unknown, audience: unknown = scope.audience) => ({
  StringLike: { [aud]: audience, [sub]: subjects },
});

/** Statements that must never be taken for ours, each close to one that would be. */
const foreignStatement: fc.Arbitrary<Statement> = fc
  .tuple(fc.array(fc.oneof(managedSubject, foreignSubject), { maxLength: 3 }), anything)
  .chain(([subjects, value]) =>
    fc.constantFrom(
      ours(like(subjects), { Effect: 'Deny' }),
      ours(like(subjects), { Principal: { Federated: [scope.providerArn, 'other'] } }),
      ours(like(subjects), { Principal: { Federated: scope.providerArn, AWS: '333333333333' } }),
      ours(like(subjects), { Principal: '*' }),
      ours(like(subjects), { Action: [action, 'sts:TagSession'] }),
      ours(like(subjects), { Note: value }),
      ours(like(subjects, 'https://vault.example')),
      ours({ ...like(subjects), Bool: { 'aws:SecureTransport': 'true' } }),
      ours({ StringLike: { ...like(subjects).StringLike, 'aws:RequestedRegion': 'us-west-2' } }),
      ours({ StringEquals: { [aud]: scope.audience, [sub]: ['system:serviceaccount:other:x', ...subjects] } }),
      ours({ ...like(subjects), StringEquals: { [sub]: subjects } }),
      { Effect: 'Allow', Principal: { AWS: ['AROAEXAMPLE', '333333333333'] }, Action: 'sts:AssumeRole', Note: value },
      { Effect: 'Deny', Principal: '*', NotAction: 'sts:*', Condition: { Null: { 'aws:PrincipalArn': 'true' } } },
    ),
  );

/** A statement that is to be adopted, with its subjects. */
const adoptable = fc
  .record({
    subjects: fc.uniqueArray(fc.oneof(managedSubject, foreignSubject), { maxLength: 6 }),
    audience: fc.constantFrom<unknown>(scope.audience, [scope.audience], [scope.audience, 'x'], [], undefined),
    literalAud: fc.boolean(),
    literalSub: fc.boolean(),
    single: fc.boolean(),
    sid: fc.boolean(),
  })
  .map(({ subjects, audience, literalAud, literalSub, single, sid }) => {
    // Somebody's literal subjects would make the statement theirs.
    const literal = literalSub && subjects.every((subject) => managedAccount('domino-compute', subject) !== undefined);
    const value = single && subjects.length === 1 ? subjects[0] : subjects;
    const audKey = audience === undefined ? {} : { [aud]: audience };
    const equals = { ...(literalAud ? audKey : {}), ...(literal ? { [sub]: value } : {}) };
    const likes = { ...(literalAud ? {} : audKey), ...(literal ? {} : { [sub]: value }) };
    const statement = ours({ StringEquals: equals, StringLike: likes }, sid ? { Sid: 'Ours' } : {});
    return { subjects, statement };
  });

const scene = fc
  .record({
    before: fc.array(foreignStatement, { maxLength: 3 }),
    own: fc.option(adoptable, { nil: undefined }),
    after: fc.array(foreignStatement, { maxLength: 3 }),
    extra: anything,
    indent: fc.constantFrom(undefined, 2),
  })
  .map(({ before, own, after, extra, indent }) => {
    const statements = own ? [...before, own.statement, ...after] : [...before, ...after];
    const document = { Version: '2012-10-17', Id: extra, Statement: statements };
    return {
      foreign: [...before, ...after],
      /** Where our statement is, and will be. */
      index: own ? before.length : statements.length,
      subjects: own?.subjects ?? [],
      document,
      text: JSON.stringify(document, null, indent),
    };
  });

type Scene = typeof scene extends fc.Arbitrary<infer T> ? T : never;

function subjectsOf(statement: Statement | undefined): string[] {
  const condition = (statement?.Condition ?? {}) as Record<string, Record<string, string | string[]>>;
  return Object.values(condition).flatMap((keys) => keys[sub] ?? []);
}

/** What must hold of a document after an edit that was not refused. */
function checkDocument(from: Scene, text: string, members: readonly string[], keep: readonly string[]) {
  const document = JSON.parse(text) as Document;
  const { Statement: statements, ...rest } = document;
  const { Statement: _before, ...restBefore } = JSON.parse(from.text) as Document;
  assert.deepEqual(rest, restBefore);
  const own = statements[from.index];
  assert.deepEqual(statements.toSpliced(from.index, 1), from.foreign);
  if (!own) return assert.deepEqual(members, []);

  const text2 = JSON.stringify(own);
  assert.doesNotMatch(text2, /\[\]/);
  const condition = own.Condition as Record<string, Record<string, unknown>>;
  assert.equal(Object.values(condition).filter((keys) => sub in keys).length, 1);
  assert.equal(Object.values(condition).filter((keys) => aud in keys).length, 1);
  assert.deepEqual(Object.keys(condition.StringLike ?? {}).includes(sub), true);

  const foreign = (list: readonly string[]) =>
    list.filter((one) => managedAccount('domino-compute', one) === undefined);
  const written = subjectsOf(own);
  assert.deepEqual(foreign(written), foreign(from.subjects));
  const letIn = new Set(written.map((one) => managedAccount('domino-compute', one)).filter((name) => name));
  const present = new Set(from.subjects.map((one) => managedAccount('domino-compute', one)));
  assert.deepEqual(letIn, new Set([...members, ...keep.filter((name) => present.has(name))]));
  return undefined;
}

function requestOf(account: string, audience = scope.audience) {
  return {
    action,
    requester: { kind: 'federated', provider: scope.providerArn } as const,
    context: conditionContext({
      [sub]: `system:serviceaccount:domino-compute:${account}`,
      [aud]: audience,
      'aws:SecureTransport': 'true',
    }),
  };
}

describe('trust policy: any document', () => {
  it('invariants 2 and 4: foreign parts come through, ours is closed, and holds exactly members and kept', () => {
    fc.assert(
      fc.property(
        scene,
        fc.array(fc.tuple(someAccounts, someAccounts), { minLength: 1, maxLength: 4 }),
        (from, steps) => {
          let { text } = from;
          for (const [members, keep] of steps) {
            const kept = (name: string) => keep.includes(name);
            const subjects = subjectsOf((JSON.parse(text) as Document).Statement[from.index]);
            const edit = editTrustPolicy(scope, text, members, kept, plenty);
            assert.notEqual(edit.kind, 'refused');
            if (edit.kind === 'changed') text = edit.document;
            checkDocument({ ...from, subjects }, text, members, keep);
            assert.equal(editTrustPolicy(scope, text, members.toReversed(), kept, plenty).kind, 'unchanged');
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('the order in which members came does not show', () => {
    fc.assert(
      fc.property(scene, fc.shuffledSubarray(accounts), (from, members) => {
        const one = editTrustPolicy(scope, from.text, members, nobody, plenty);
        const other = editTrustPolicy(scope, from.text, [...members].sort(), nobody, plenty);
        assert.deepEqual(one, other);
      }),
    );
  });

  it('invariant 8: an edit is refused for its size alone, to the character, white space not counted', () => {
    fc.assert(
      fc.property(scene, someAccounts, someAccounts, (from, members, keep) => {
        const edit = (maxChars: number) =>
          editTrustPolicy(scope, from.text, members, (name) => keep.includes(name), maxChars);
        const free = edit(plenty);
        if (free.kind !== 'changed') return assert.equal(edit(0).kind, 'unchanged');
        const size = JSON.stringify(JSON.parse(free.document)).replace(/\s/gu, '').length;
        assert.equal(free.size, size);
        assert.deepEqual(edit(size), free);
        const refused = edit(size - 1);
        return assert.equal(refused.kind === 'refused' && refused.code, 'trust_policy_full');
      }),
      { numRuns: 300 },
    );
  });

  it('invariant 8: the room that is told is exact', () => {
    fc.assert(
      fc.property(scene, fc.subarray(accounts, { minLength: 1 }), someAccounts, (from, members, others) => {
        const kept = others.filter((name) => !members.includes(name));
        const keep = (name: string) => kept.includes(name);
        const view = readTrustPolicy(scope, from.text);
        assert.ok(view.kind === 'read');
        const cost = members.reduce((sum, name) => sum + memberCost(scope.namespace, name), 0);
        // The limit at which just these members fit, by what is told for another limit.
        const fits = plenty - view.room(plenty, keep) + cost;
        assert.equal(view.room(fits, keep), cost);
        const edit = editTrustPolicy(scope, from.text, members, keep, fits);
        assert.ok(edit.kind !== 'refused');
        assert.ok(edit.kind === 'unchanged' || edit.size === fits);
        if (edit.kind === 'unchanged') return;
        assert.equal(editTrustPolicy(scope, from.text, members, keep, fits - 1).kind, 'refused');
      }),
      { numRuns: 300 },
    );
  });

  it('pods of members get in through our statement, and nobody else through it', () => {
    fc.assert(
      fc.property(scene, someAccounts, (from, members) => {
        const edit = editTrustPolicy(scope, from.text, members, nobody, plenty);
        assert.ok(edit.kind !== 'refused');
        const document = JSON.parse(edit.document) as Document;
        const own = document.Statement[from.index];
        const alone = { Version: '2012-10-17', Statement: own ? [own] : [] };
        for (const account of [...accounts, 'mallory', `run-${'9'.repeat(24)}`]) {
          const expected = members.includes(account) ? 'allowed' : 'no-match';
          assert.equal(evaluateTrust(alone, requestOf(account)), expected, account);
          assert.equal(evaluateTrust(alone, requestOf(account, 'https://else.example')), 'no-match', account);
          // With the others' statements: theirs decide for whom ours does not.
          const others = evaluateTrust({ ...document, Statement: from.foreign }, requestOf(account));
          const whole = evaluateTrust(document, requestOf(account));
          assert.equal(whole, others === 'no-match' ? expected : others, account);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('never throws, whatever the text', () => {
    const texts = fc.oneof(
      fc.string(),
      fc.json({ maxDepth: 4 }),
      fc
        .record({ Statement: fc.oneof(anything, fc.array(anything), fc.array(fc.record({ Effect: anything }))) })
        .map((document) => JSON.stringify(document)),
      fc
        .dictionary(fc.constantFrom('Effect', 'Principal', 'Action', 'Condition', 'Sid', '__proto__'), anything)
        .map((odd) => JSON.stringify({ Statement: [{ ...ours(like([])), ...odd }] })),
      fc
        .dictionary(fc.constantFrom(sub, aud, '__proto__'), fc.oneof(anything, fc.constant(['']), fc.constant('')))
        .map((keys) => JSON.stringify({ Statement: ours({ StringLike: keys, StringEquals: keys }) })),
    );
    fc.assert(
      fc.property(texts, (text) => {
        const edit = editTrustPolicy(scope, text, ['alice'], nobody, plenty);
        const view = readTrustPolicy(scope, text);
        assert.equal(view.kind === 'refused', edit.kind === 'refused');
        if (edit.kind === 'refused') assert.equal(edit.code, 'malformed_trust_policy');
        else if (edit.kind === 'changed') assert.equal(trustPolicySize(edit.document), edit.size);
      }),
      { numRuns: 500 },
    );
  });
});
