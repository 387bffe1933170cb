/** Owns the fuzz tests of src/trust-policy: edit random documents and check each result against IAM's semantics. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { editTrustPolicy, readTrustPolicy } from '../../src/trust-policy/document.ts';
import { letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { alterations, hostileDocument } from './trust-documents.ts';
import { cases, checkEdit, judge, listsOf, statementsOf, strangers, stripped } from './trust-oracle.ts';
import { type Statement, scope, someAccounts } from './trust-policies.ts';

const plenty = 1_000_000;
const sizeOf = (text: string) => text.replace(/\s/g, '').length;
type Document = Record<string, unknown>;

/** Edits documents and checks each edit. @throws where an edit is wrong, with the smallest document that shows it. */
export function fuzzEdits(options: { numRuns: number; seed?: number }): void {
  fc.assert(
    fc.property(hostileDocument, someAccounts, someAccounts, fc.nat({ max: 4096 }), (text, members, keep, maxChars) => {
      const kept = (account: string) => keep.includes(account);
      const before = JSON.parse(text) as Document;
      const edit = editTrustPolicy(scope, text, members, kept, plenty);
      assert.ok(edit.kind !== 'refused');
      const after = JSON.parse(edit.document) as Document;
      if (edit.kind === 'unchanged') assert.deepEqual(after, before);
      checkEdit({ before, after, members, keep });

      assert.match(edit.document, /^[\x20-\x7e]+$/, 'ASCII');
      assert.equal(edit.size, sizeOf(edit.document));
      const again = editTrustPolicy(scope, edit.document, members, kept, plenty);
      assert.deepEqual([again.kind, again], ['unchanged', { ...edit, kind: 'unchanged' }]);
      const tight = editTrustPolicy(scope, text, members, kept, maxChars);
      const mayBeWritten = edit.kind === 'unchanged' || edit.size <= maxChars || edit.size < asciiSize(before);
      assert.deepEqual(tight.kind === 'refused' ? tight.code : tight, mayBeWritten ? edit : 'trust_policy_full');

      checkReach(text, before);
      checkView(text, before);
      const view = readTrustPolicy(scope, edit.document);
      assert.ok(view.kind === 'read');
      assert.deepEqual(
        members.filter((account) => !view.settled.has(account)),
        [],
      );
    }),
    options,
  );
}

/** Another tool alters each new statement of the service while runs come and go. The document must stop growing. */
export function fuzzRounds(options: { numRuns: number; seed?: number }): void {
  const rounds = fc.array(someAccounts, { minLength: 10, maxLength: 14 });
  const tool = fc.subarray(Object.keys(alterations), { minLength: 1, maxLength: 3 }).filter(
    // With this alteration a statement admits tokens of any other provider, so it stays unmanaged.
    (names) => !(names.includes('an operator for absent keys') && names.length > 1),
  );
  fc.assert(
    fc.property(hostileDocument, rounds, tool, (text, steps, names) => {
      let document = JSON.parse(text) as Document;
      const limit = statementsOf(document).length + 3;
      for (const members of steps) {
        const edit = editTrustPolicy(scope, JSON.stringify(document), members, () => false, plenty);
        assert.ok(edit.kind !== 'refused');
        const after = JSON.parse(edit.document) as Document;
        checkEdit({ before: document, after, members, keep: [] });
        assert.ok(statementsOf(after).length <= limit, 'the document must not grow from round to round');
        document = {
          ...after,
          Statement: statementsOf(after).map((one) => (isPlain(one) ? altered(one, names) : one)),
        };
      }
    }),
    options,
  );
}

const altered = (one: Statement, names: readonly string[]) =>
  names.reduce((result, name) => alterations[name]?.(result) ?? result, one);

/** Whether the statement is exactly as the service writes it. */
function isPlain(one: Statement): boolean {
  const { Effect: effect, Principal: principal, Action: action, Condition: condition, ...rest } = one;
  const lists = listsOf(one);
  return (
    effect === 'Allow' &&
    Object.keys(rest).length === 0 &&
    JSON.stringify(principal) === JSON.stringify({ Federated: scope.providerArn }) &&
    action === 'sts:AssumeRoleWithWebIdentity' &&
    Object.keys((condition ?? {}) as object).join() === 'StringLike' &&
    lists.length === 1 &&
    Object.keys((condition as { StringLike: object }).StringLike).length === 2
  );
}

/** IAM never allows an account that `letsIn` denies; where IAM allows a stranger, `openSubjects` names a subject. */
function checkReach(text: string, document: Document): void {
  const allowed = judge(document).flatMap(({ verdicts }) =>
    cases.flatMap(({ account }, at) => (account !== undefined && verdicts[at] === 'allowed' ? [account] : [])),
  );
  const open = openSubjects(scope, text);
  for (const account of new Set(allowed)) {
    if (!letsIn(scope, text, account)) assert.fail(`${account} comes in`);
    if (strangers.includes(account)) assert.ok(open.length > 0, `${account} comes in by something open`);
  }
}

/** Checks that the view of a document has the managed subjects that IAM admits, in any statement. */
function checkView(text: string, document: Document): void {
  const view = readTrustPolicy(scope, text);
  assert.ok(view.kind === 'read');
  const nobody = { ...document, Statement: statementsOf(document).map((one) => stripped(one, () => false)) };
  const without = judge(nobody);
  for (const [index, { verdicts }] of judge(document).entries()) {
    for (const [at, { account }] of cases.entries()) {
      if (account === undefined || verdicts[at] !== 'allowed') continue;
      if ((without[index] ?? without[0])?.verdicts[at] === 'allowed') continue;
      assert.ok(view.accounts.has(account), `${account} comes in by a subject of ours`);
    }
  }
  const unnamed = [...view.accounts].filter((account) => !text.includes(account.replace(/^run-/, '')));
  assert.deepEqual(unnamed, []);
}

function asciiSize(document: Document): number {
  const escapes = JSON.stringify(document).replace(/[^\x20-\x7e]/g, '\\u0000');
  return sizeOf(escapes);
}
