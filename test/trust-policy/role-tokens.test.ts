/** Proves what the statements for role tokens allow and deny, by IAM's semantics, in any document. */
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
const keepNone = () => false;
const ourSids = ['IrsaRoleTokens', 'IrsaRevokedRoleTokens'];

function trust(denied: Iterable<string> = [], more: Partial<TokenTrust> = {}): TokenTrust {
  return { audience, granted: true, denied: new Set(denied), ...more };
}

function edited(text: string, tokens: TokenTrust, maxChars = plenty): string {
  const edit = editTrustPolicy(scope, text, undefined, keepNone, maxChars, undefined, tokens);
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
  it('invariant 12: the statement accepts the role’s own audience alone, and unmanaged statements stay', () => {
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

  it('invariant 12: no statement is written for an audience of another form', () => {
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

  it('an audience may have every character that IAM allows in role names', () => {
    const name = 'irsa/A.b+c=d,e@f_g-h';
    const result = edited(blank, trust([], { audience: name }));
    assert.equal(verdict(own(result), 'alice', name), 'allowed');
    assert.equal(verdict(own(result), 'alice', 'irsa/Axb+c=d,e@f_g-h'), 'no-match');
  });

  it('removes the statements, and leaves a closed one where the policy would be empty', () => {
    const gone = trust([], { granted: false });
    assert.deepEqual(JSON.parse(edited(edited(blank, trust(['alice'])), gone)), JSON.parse(blank));
    const only = JSON.stringify({ Version: '2012-10-17', Statement: own(edited(blank, trust(['alice']))) });
    const closed = edited(only, gone);
    assert.equal(statements(closed).length, 1);
    for (const account of accounts) assert.equal(verdict(statements(closed), account, audience), 'no-match');
    assert.equal(edited(closed, gone), closed);
    assert.equal(verdict(own(edited(closed, trust())), 'alice', audience), 'allowed');
  });

  it('repairs an altered statement, and keeps one that is equivalent', () => {
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

  it('does not report its statement as open, unless the audience is another role’s', () => {
    const text = edited(blank, trust(['alice']));
    assert.deepEqual(openSubjects(scope, text, audience), []);
    assert.equal(letsIn(scope, text, 'mallory', audience), false);
    assert.ok(denies(scope, text, 'alice') && !denies(scope, text, 'mallory'));
    assert.equal(openSubjects(scope, text, 'irsa/other').length, 1);
    assert.ok(letsIn(scope, text, 'mallory', 'irsa/other'));
  });

  it('denies a run by its id, which also denies other names that end in the whole id, and no more', () => {
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

  it('invariant 8: the capacity for members is what the statements for tokens leave', () => {
    const view = readTrustPolicy(scope, blank, { members: true, tokens: trust(['alice']) });
    const bare = readTrustPolicy(scope, edited(blank, trust(['alice'])), { members: true });
    assert.ok(view.kind === 'read' && bare.kind === 'read');
    assert.equal(view.room(2048, keepNone), bare.room(2048, keepNone));
  });

  it('denies as many service accounts as fit, and keeps those already denied', () => {
    const empty = JSON.stringify({ Version: '2012-10-17', Statement: [] as Statement[] }).replace('[]', '{}');
    const names = Array.from({ length: 400 }, (_, index) => `run-${index.toString(16).padStart(24, '0')}`);
    const seen = [2048, 4096, 8192].map((quota) => {
      const fits = (some: TokenTrust) =>
        editTrustPolicy(scope, empty, undefined, keepNone, quota, undefined, some).kind !== 'refused';
      const before = trust(names.slice(-3));
      const found = whoIsDenied(trust(names), before, fits);
      assert.ok(before.denied.isSubsetOf(found.denied) && fits(found));
      return found.denied.size;
    });
    // The minimum that the documentation promises, beside an unmanaged statement.
    assert.ok(seen[0]! >= 44 && seen[1]! >= 117 && seen[2]! >= 264, seen.join());
  });
});
