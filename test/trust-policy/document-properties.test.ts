/** Proves what holds for the edit of any trust policy, with documents and edits that fast-check generates. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { editTrustPolicy, readTrustPolicy, trustPolicySize } from '../../src/trust-policy/document.ts';
import { managedAccount, memberCost } from '../../src/trust-policy/subjects.ts';
import { conditionContext } from '../stack/aws-conditions.ts';
import { evaluateTrust } from '../stack/aws-trust.ts';
import {
  accounts,
  anything,
  aud,
  type Document,
  like,
  ours,
  type Scene,
  type Statement,
  scene,
  scope,
  someAccounts,
  sub,
} from '../support/trust-policies.ts';

const action = 'sts:AssumeRoleWithWebIdentity';
const plenty = 100_000;
const keepNone = () => false;

function subjectsOf(statement: Statement | undefined): string[] {
  const condition = (statement?.Condition ?? {}) as Record<string, Record<string, string | string[]>>;
  return Object.values(condition).flatMap((keys) => keys[sub] ?? []);
}

/** What must hold for a document after an edit that was not refused. */
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
  it('invariants 2 and 4: unmanaged parts stay, and the service’s statement admits exactly its members', () => {
    fc.assert(
      fc.property(
        scene,
        fc.array(fc.tuple(someAccounts, someAccounts), { minLength: 1, maxLength: 4 }),
        (from, steps) => {
          let { text } = from;
          for (const [members, keep] of steps) {
            const kept = (name: string) => keep.includes(name);
            // A literal list that looks like the service's admits no account, and none of it is kept.
            const before = (JSON.parse(text) as Document).Statement[from.index];
            const literal = sub in ((before?.Condition as { StringEquals?: object } | undefined)?.StringEquals ?? {});
            const subjects = literal ? [] : subjectsOf(before);
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

  it('the result does not depend on the order of the members', () => {
    fc.assert(
      fc.property(scene, fc.shuffledSubarray(accounts), (from, members) => {
        const one = editTrustPolicy(scope, from.text, members, keepNone, plenty);
        const other = editTrustPolicy(scope, from.text, [...members].sort(), keepNone, plenty);
        assert.deepEqual(one, other);
      }),
    );
  });

  it('invariant 8: an edit is refused from the first character over the limit, unless it shortens the document', () => {
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
        // A document that is already too long may still become shorter.
        if (size < JSON.stringify(JSON.parse(from.text)).replace(/\s/gu, '').length) {
          return assert.deepEqual(refused, free);
        }
        return assert.equal(refused.kind === 'refused' && refused.code, 'trust_policy_full');
      }),
      { numRuns: 300 },
    );
  });

  it('invariant 8: the reported capacity is exact', () => {
    fc.assert(
      fc.property(scene, fc.subarray(accounts, { minLength: 1 }), someAccounts, (from, members, others) => {
        const kept = others.filter((name) => !members.includes(name));
        const keep = (name: string) => kept.includes(name);
        const view = readTrustPolicy(scope, from.text);
        assert.ok(view.kind === 'read');
        const cost = members.reduce((sum, name) => sum + memberCost(scope.namespace, name), 0);
        // The limit at which just these members fit, computed from the capacity for another limit.
        const fits = plenty - view.room(plenty, keep) + cost;
        assert.equal(view.room(fits, keep), cost);
        const edit = editTrustPolicy(scope, from.text, members, keep, fits);
        assert.ok(edit.kind !== 'refused');
        assert.ok(edit.kind === 'unchanged' || edit.size === fits);
        if (edit.kind === 'unchanged' || edit.size < trustPolicySize(from.text)) return;
        assert.equal(editTrustPolicy(scope, from.text, members, keep, fits - 1).kind, 'refused');
      }),
      { numRuns: 300 },
    );
  });

  it('the service’s statement admits the pods of members, and no other', () => {
    fc.assert(
      fc.property(scene, someAccounts, (from, members) => {
        const edit = editTrustPolicy(scope, from.text, members, keepNone, plenty);
        assert.ok(edit.kind !== 'refused');
        const document = JSON.parse(edit.document) as Document;
        const own = document.Statement[from.index];
        const alone = { Version: '2012-10-17', Statement: own ? [own] : [] };
        for (const account of [...accounts, 'mallory', `run-${'9'.repeat(24)}`]) {
          const expected = members.includes(account) ? 'allowed' : 'no-match';
          assert.equal(evaluateTrust(alone, requestOf(account)), expected, account);
          assert.equal(evaluateTrust(alone, requestOf(account, 'https://else.example')), 'no-match', account);
          // Unmanaged statements decide for the accounts that the service's statement does not name.
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
        const edit = editTrustPolicy(scope, text, ['alice'], keepNone, plenty);
        const view = readTrustPolicy(scope, text);
        assert.equal(view.kind === 'refused', edit.kind === 'refused');
        if (edit.kind === 'refused') assert.equal(edit.code, 'malformed_trust_policy');
        else if (edit.kind === 'changed') assert.equal(trustPolicySize(edit.document), edit.size);
      }),
      { numRuns: 500 },
    );
  });
});
