/** Proves the form of our subjects, and that nothing else is taken for one. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import {
  isServiceAccountName,
  managedAccount,
  memberCost,
  placeholderSubject,
  subjectOf,
} from '../../src/trust-policy/subjects.ts';

const namespace = 'domino-compute';
const run = 'run-646d27b817c28b5ea4b5b0c1';
const name = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,5}[a-z0-9])?){0,2}$/);

describe('subjects', () => {
  it('are patterns for one account of the namespace', () => {
    assert.equal(subjectOf(namespace, run), `*:domino-compute:${run}`);
  });

  it('invariant 5: are made of DNS-1123 names only', () => {
    for (const good of [run, 'a', '0', 'a-b', 'a.b', 'svc-user-1-sa', 'a--b', 'x'.repeat(253)]) {
      assert.ok(isServiceAccountName(good), good);
    }
    const variable = ['$', '{aws:username}'].join('');
    for (const bad of [
      '',
      '*',
      'a*',
      'a?',
      variable,
      'A',
      'a_b',
      'a:b',
      'a/b',
      '-a',
      'a-',
      '.a',
      'a.',
      'a..b',
      'a.-b',
    ]) {
      assert.ok(!isServiceAccountName(bad), bad);
      assert.throws(() => subjectOf(namespace, bad), RangeError, bad);
    }
    for (const bad of ['a\n', 'a b', ' a', 'é', 'a\u0000', 'x'.repeat(254)]) assert.ok(!isServiceAccountName(bad), bad);
  });

  it('are known again, in the form of today and of earlier releases', () => {
    assert.equal(managedAccount(namespace, `*:domino-compute:${run}`), run);
    assert.equal(managedAccount(namespace, `*${run.slice(4)}`), run);
    assert.equal(managedAccount(namespace, ''), '');
    assert.equal(managedAccount(namespace, placeholderSubject), '');
  });

  it('are nobody else’s', () => {
    for (const foreign of [
      '*',
      '*:domino-compute:*',
      '*:domino-compute:',
      '*:domino-compute:Alice',
      '*:domino-compute:a:b',
      '*:domino-compute-2:a',
      '*:other:a',
      `system:serviceaccount:domino-compute:${run}`,
      run.slice(4),
      `*${run.slice(4)}0`,
      `*${run.slice(4).toUpperCase()}`,
      `*${run.slice(5)}`,
      ` ${placeholderSubject}`,
    ]) {
      assert.equal(managedAccount(namespace, foreign), undefined, foreign);
    }
  });

  it('come back as the account that they were made for, at the cost of a quoted subject and a comma', () => {
    fc.assert(
      fc.property(name, (account) => {
        const subject = subjectOf(namespace, account);
        assert.equal(managedAccount(namespace, subject), account);
        assert.equal(memberCost(namespace, account), `${JSON.stringify(subject)},`.length);
        assert.ok(!/[*?$]/.test(subject.slice(1)));
      }),
    );
  });

  it('any text is either ours, and then made of a good name, or not', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string().map((text) => `*:${namespace}:${text}`),
        ),
        (subject) => {
          const account = managedAccount(namespace, subject);
          assert.ok(!account || isServiceAccountName(account));
        },
      ),
    );
  });

  it('the placeholder is no subject that a token can have', () => {
    assert.ok(!placeholderSubject.startsWith('system:serviceaccount:'));
    assert.doesNotMatch(placeholderSubject, /[*?$]/);
  });
});
