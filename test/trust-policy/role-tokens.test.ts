/** Proves what the statements for role tokens let in and keep out, by IAM's semantics, in any document. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { editTrustPolicy, readTrustPolicy } from '../../src/trust-policy/document.ts';
import { denies, letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { type TokenTrust, tokenTrustEntries, whoIsDenied } from '../../src/trust-policy/role-tokens.ts';
import { conditionContext } from '../stack/aws-conditions.ts';
import { evaluateTrust } from '../stack/aws-trust.ts';
import { hostileDocument } from '../support/trust-documents.ts';
import {
  accounts,
  aud,
  type Document,
  type Statement,
  scene,
  scope,
  someAccounts,
  sub,
} from '../support/trust-policies.ts';

const audience = 'irsa/acme-list';
const plenty = 100_000;
const nobody = () => false;
const ourSids = ['IrsaRoleTokens', 'IrsaRevokedRoleTokens'];

function trust(denied: Iterable<string> = [], more: Partial<TokenTrust> = {}): TokenTrust {
  return { audience, granted: true, denied: new Set(denied), ...more };
}

function edited(text: string, tokens: TokenTrust, maxChars = plenty): string {
  const edit = editTrustPolicy(scope, text, undefined, nobody, maxChars, undefined, tokens);
  assert.ok(edit.kind !== 'refused', JSON.stringify(edit));
  return edit.document;
}

const statements = (text: string) => [(JSON.parse(text) as Document).Statement].flat();
const others = (text: string) => statements(text).filter(({ Sid: sid }) => !ourSids.includes(String(sid)));
const own = (text: string) => statements(text).filter(({ Sid: sid }) => ourSids.includes(String(sid)));

function verdict(list: readonly Statement[], account: string, asked: string, namespace = 'domino-compute') {
  return evaluateTrust(
    { Version: '2012-10-17', Statement: list },
    {
      action: 'sts:AssumeRoleWithWebIdentity',
      requester: { kind: 'federated', provider: scope.providerArn },
      context: conditionContext({ [sub]: `system:serviceaccount:${namespace}:${account}`, [aud]: asked }),
    },
  );
}

const blank = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: '111111111111' }, Action: 'sts:AssumeRole' }],
});

describe('trust policy: role tokens', () => {
  it('invariant 12: the statement has the role’s own audience, whatever the document holds, and others’ come through', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          hostileDocument,
          scene.map(({ text }) => text),
        ),
        someAccounts,
        (text, denied) => {
          const result = edited(text, trust(denied));
          assert.deepEqual(others(result), others(text));
          for (const account of [...accounts, 'mallory']) {
            const expected = denied.includes(account) ? 'denied' : 'allowed';
            assert.equal(verdict(own(result), account, audience), expected, account);
            for (const else_ of [
              'irsa/acme-lis',
              'irsa/acme-list2',
              'IRSA/ACME-LIST',
              'sts.amazonaws.com',
              '',
              'irsa/*',
            ]) {
              const without = denied.includes(account) ? 'denied' : 'no-match';
              assert.equal(verdict(own(result), account, else_), without, `${account} ${else_}`);
            }
            assert.notEqual(verdict(own(result), account, audience, 'other'), 'allowed');
          }
          assert.equal(edited(result, trust([...denied].reverse())), result);
          const view = readTrustPolicy(scope, result, { members: false, tokens: trust(denied) });
          assert.ok(view.kind === 'read');
          assert.deepEqual(new Set(view.subjects), new Set(tokenTrustEntries(trust(denied))));
        },
      ),
      { numRuns: 300 },
    );
  });

  it('invariant 12: without an audience of its own form there is no statement', () => {
    const odd = fc.oneof(
      fc.constantFrom(
        '',
        '*',
        'irsa/',
        'irsa/*',
        'irsa/a?',
        'sts.amazonaws.com',
        'irsa/a b',
        'irsa/a/b',
        'irsa/$' + '{aws:x}',
      ),
      fc.string().filter((text) => !/^irsa\/[A-Za-z0-9+=,.@_-]{1,64}$/.test(text)),
    );
    fc.assert(
      fc.property(odd, fc.constantFrom(blank, edited(blank, trust(['alice']))), (text, document) => {
        const result = edited(document, trust([], { audience: text }));
        assert.deepEqual(own(result), []);
        assert.deepEqual(others(result), others(blank));
      }),
    );
  });

  it('lets a role name with every character that IAM has for names stand as it is', () => {
    const name = 'irsa/A.b+c=d,e@f_g-h';
    const result = edited(blank, trust([], { audience: name }));
    assert.equal(verdict(own(result), 'alice', name), 'allowed');
    assert.equal(verdict(own(result), 'alice', 'irsa/Axb+c=d,e@f_g-h'), 'no-match');
  });

  it('takes the statements away again, and leaves the last one of a policy closed', () => {
    const gone = trust([], { granted: false });
    assert.deepEqual(JSON.parse(edited(edited(blank, trust(['alice'])), gone)), JSON.parse(blank));
    const only = JSON.stringify({ Version: '2012-10-17', Statement: own(edited(blank, trust(['alice']))) });
    const closed = edited(only, gone);
    assert.equal(statements(closed).length, 1);
    for (const account of accounts) assert.equal(verdict(statements(closed), account, audience), 'no-match');
    assert.equal(edited(closed, gone), closed);
    assert.equal(verdict(own(edited(closed, trust())), 'alice', audience), 'allowed');
  });

  it('mends a statement of ours that somebody altered, and keeps one that says the same in other words', () => {
    const [statement] = own(edited(blank, trust())) as [Statement];
    const document = (one: Statement) => JSON.stringify({ Version: '2012-10-17', Statement: [one] });
    const condition = statement.Condition as Record<string, Record<string, unknown>>;
    const altered: Statement[] = [
      { ...statement, Condition: { StringLike: condition.StringLike } },
      { ...statement, Condition: { ...condition, StringEquals: { [aud]: [audience, 'sts.amazonaws.com'] } } },
      { ...statement, Condition: { StringLike: { ...condition.StringLike, [aud]: 'irsa/*' } } },
      { ...statement, Principal: '*' },
      { ...statement, Effect: 'Deny' },
    ];
    for (const one of altered) {
      assert.equal(edited(document(one), trust()), document(statement));
      const view = readTrustPolicy(scope, document(one), { members: false, tokens: trust() });
      assert.ok(view.kind === 'read');
      assert.notDeepEqual([...view.subjects], tokenTrustEntries(trust()));
    }
    const { Sid: _sid, ...unnamed } = statement;
    for (const one of [unnamed, { ...unnamed, Sid: 'Terraform', Action: [statement.Action as string] }]) {
      assert.equal(edited(document(one), trust()), document(one));
    }
  });

  it('does not take the statement for one that is open, unless the audience is another role’s', () => {
    const text = edited(blank, trust(['alice']));
    assert.deepEqual(openSubjects(scope, text, audience), []);
    assert.equal(letsIn(scope, text, 'mallory', audience), false);
    assert.ok(denies(scope, text, 'alice') && !denies(scope, text, 'mallory'));
    assert.equal(openSubjects(scope, text, 'irsa/other').length, 1);
    assert.ok(letsIn(scope, text, 'mallory', 'irsa/other'));
  });

  it('names a denied run by its id: a name that ends in the whole id is kept out too, and no other one', () => {
    const id = '646d27b817c28b5ea4b5b0c1';
    const denial = own(edited(blank, trust([`run-${id}`, 'static-one'])));
    const outcome = (name: string) => verdict(denial, name, audience);
    assert.deepEqual([`run-${id}`, `x-${id}`, 'static-one'].map(outcome), ['denied', 'denied', 'denied']);
    const others = [`ray-${id}-ray`, `run-${id}0`, `run-${id.slice(1)}`, `run-0${id.slice(1)}`, 'x-static-one'];
    assert.deepEqual(
      others.filter((name) => outcome(name) !== 'allowed'),
      [],
    );
  });

  it('invariant 8: the room for members is what is left beside it', () => {
    const view = readTrustPolicy(scope, blank, { members: true, tokens: trust(['alice']) });
    const bare = readTrustPolicy(scope, edited(blank, trust(['alice'])), { members: true });
    assert.ok(view.kind === 'read' && bare.kind === 'read');
    assert.equal(view.room(2048, nobody), bare.room(2048, nobody));
  });

  it('denies as many as a document holds, and those who are denied already first', () => {
    const empty = JSON.stringify({ Version: '2012-10-17', Statement: [] as Statement[] }).replace('[]', '{}');
    const names = Array.from({ length: 400 }, (_, index) => `run-${index.toString(16).padStart(24, '0')}`);
    const seen = [2048, 4096, 8192].map((quota) => {
      const fits = (some: TokenTrust) =>
        editTrustPolicy(scope, empty, undefined, nobody, quota, undefined, some).kind !== 'refused';
      const before = trust(names.slice(-3));
      const found = whoIsDenied(trust(names), before, fits);
      assert.ok(before.denied.isSubsetOf(found.denied) && fits(found));
      return found.denied.size;
    });
    // The least that the documentation promises, beside a statement of others.
    assert.ok(seen[0]! >= 44 && seen[1]! >= 117 && seen[2]! >= 264, seen.join());
  });
});
