/** Proves which accounts a trust policy is said to admit: every possible way in is reported, and no closed one. */
import assert from 'node:assert/strict';
import { letsIn, openSubjects } from '../../src/trust-policy/reach.ts';
import { matchesPattern } from '../../src/trust-policy/wildcards.ts';
import { aud, like, ours, type Statement, scope, sub } from '../support/trust-policies.ts';

const run = 'run-646d27b817c28b5ea4b5b0c1';
const subject = `system:serviceaccount:domino-compute:${run}`;
const github = 'arn:aws:iam::111111111111:oidc-provider/token.actions.githubusercontent.com';
const textOf = (...statements: Statement[]) => JSON.stringify({ Version: '2012-10-17', Statement: statements });
const variable = (name: string) => ['$', '{', name, '}'].join('');

describe('trust policy: whether a service account may assume the role', () => {
  const lets = (...statements: Statement[]) => letsIn(scope, textOf(...statements), run);

  it('yes for its own subject, for a pattern that matches it, and without a condition on the subject', () => {
    for (const one of [
      `*:domino-compute:${run}`,
      subject,
      '*',
      'system:serviceaccount:*:*',
      '*:domino-compute:run-*',
    ]) {
      assert.ok(lets(ours(like(one))), one);
      assert.ok(lets(ours(like(['x', one]))), `${one} in a list`);
    }
    assert.ok(lets(ours({ StringEquals: { [aud]: scope.audience } })));
    assert.ok(lets(ours({ StringEquals: { [sub]: subject } })));
    assert.ok(lets(ours({ StringEqualsIgnoreCase: { [sub.toUpperCase()]: subject.toUpperCase() } })));
  });

  it('no for another account’s subject, a literal star, the placeholder, or another provider’s statement', () => {
    for (const one of [
      '*:domino-compute:alice',
      'system:serviceaccount:prod:*',
      'irsa-svc:no-live-runs',
      '',
      '*:run-*-x',
    ]) {
      assert.ok(!lets(ours(like(one))), one);
    }
    assert.ok(!lets(ours({ StringEquals: { [sub]: '*' } })));
    assert.ok(!lets(ours({ StringNotLike: { [sub]: '*:domino-compute:*' } })));
    assert.ok(!lets(ours({ StringLike: { [sub]: '*' }, StringEquals: { [sub]: 'system:serviceaccount:prod:api' } })));
    assert.ok(!lets(ours(like('*'), { Principal: { Federated: github } })));
    assert.ok(!lets(ours({ StringLike: { 'token.actions.githubusercontent.com:sub': 'repo:x/*' } })));
    assert.ok(!lets(ours(like('*'), { Action: 'sts:AssumeRole' })));
  });

  it('yes where the document cannot decide: another condition, a variable, an empty list, an unknown operator', () => {
    const more = { StringEquals: { 'aws:SourceVpc': 'vpc-0123456789abcdef0' } };
    assert.ok(lets(ours({ ...like(subject), ...more })));
    assert.ok(lets(ours({ StringEquals: { [sub]: variable(sub) } })));
    assert.ok(lets(ours(like([]))));
    assert.ok(lets(ours(like(subject, 'https://vault.example'))));
    assert.ok(lets(ours({ NewOperator: { [sub]: 'x' } })));
    assert.ok(lets(ours(like(subject), { Principal: { AWS: '*' } })));
    assert.ok(lets(ours(like(subject), { Action: undefined, NotAction: 'sts:AssumeRole' })));
    assert.ok(letsIn(scope, 'no policy', run));
  });

  it('no where a Deny matches for certain; a Deny that may not match is ignored', () => {
    const allow = ours(like('*'));
    assert.ok(!lets(allow, ours({ StringLike: { [sub]: '*:domino-compute:*' } }, { Effect: 'Deny' })));
    assert.ok(!lets(allow, { Effect: 'Deny', Principal: '*', Action: '*' }));
    assert.ok(lets(allow, ours(like('*:domino-compute:*'), { Effect: 'Deny' })), 'another audience passes');
    assert.ok(lets(allow, ours({ StringLike: { [sub]: '*:prod:*' } }, { Effect: 'Deny' })));
    assert.ok(lets(allow, ours({ StringEquals: { [sub]: variable(sub) } }, { Effect: 'Deny' })));
  });
});

describe('trust policy: subjects that are open to more than one service account', () => {
  const open = (condition: object, more: object = {}) =>
    openSubjects(scope, textOf({ Effect: 'Deny', Principal: '*', Action: 'sts:None' }, ours(condition, more)));

  it('are reported with their statement', () => {
    for (const one of ['*', 'system:serviceaccount:domino-*:*', '*-admin', '*:domino-compute:run-?', '?*', '*:d*e:a']) {
      const shouldBe = one === '*:d*e:a' ? [] : [{ index: 1, sid: 'Runs', subject: one }];
      assert.deepEqual(open(like([one, 'system:serviceaccount:prod:api']), { Sid: 'Runs' }), shouldBe, one);
    }
    const noSubject = [{ index: 1, sid: undefined, subject: undefined }];
    assert.deepEqual(open({ StringEquals: { [aud]: scope.audience } }), noSubject);
    assert.deepEqual(open({ StringNotLike: { [sub]: '*:prod:*' } }), noSubject);
    assert.deepEqual(open(like([])), noSubject);
    assert.deepEqual(
      open({ StringEquals: { [sub]: variable(sub) } }).map((one) => one.subject),
      [variable(sub)],
    );
  });

  it('do not include a single account, other namespaces, managed ones, or what another condition closes', () => {
    for (const one of [
      subject,
      '*:domino-compute:alice',
      'system:serviceaccount:prod:*',
      '*646d27b817c28b5ea4b5b0c1',
    ]) {
      assert.deepEqual(open(like(one)), [], one);
    }
    assert.deepEqual(open({ StringEquals: { [sub]: '*' } }), []);
    assert.deepEqual(open({ StringLike: { [sub]: '*' }, StringEquals: { [sub]: subject } }), []);
    assert.deepEqual(open({ StringLike: { 'token.actions.githubusercontent.com:sub': 'repo:x/*' } }), []);
    assert.deepEqual(open(like('*'), { Principal: { Federated: github } }), []);
    assert.deepEqual(open(like('*'), { Effect: 'Deny' }), []);
    assert.deepEqual(openSubjects(scope, 'no policy'), []);
  });
});

describe('wildcards', () => {
  it('match as in IAM, and fast even for hostile patterns', () => {
    for (const [pattern, text] of [
      ['*', ''],
      ['a*c', 'abc'],
      ['a?c', 'abc'],
      ['**b**', 'aba'],
    ] as const) {
      assert.ok(matchesPattern(pattern, text), `${pattern} ${text}`);
    }
    for (const [pattern, text] of [
      ['', 'a'],
      ['a?', 'a'],
      ['a*c', 'abcd'],
      ['.', 'a'],
      ['*a'.repeat(2_000), 'a'.repeat(300)],
    ] as const) {
      assert.ok(!matchesPattern(pattern, text), `${pattern} ${text}`);
    }
  });
});
