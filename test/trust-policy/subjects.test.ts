/** Proves the form of managed subjects, and that no other subject counts as managed. */
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

describe('managed subjects', () => {
  it('are patterns for one service account of the namespace', () => {
    assert.equal(subjectOf(namespace, run), `*:domino-compute:${run}`);
  });

  it('invariant 5: are built from DNS-1123 names only', () => {
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

  it('are recognized in their current form and that of earlier releases', () => {
    assert.equal(managedAccount(namespace, `*:domino-compute:${run}`), run);
    assert.equal(managedAccount(namespace, `*${run.slice(4)}`), run);
    assert.equal(managedAccount(namespace, ''), '');
    assert.equal(managedAccount(namespace, placeholderSubject), '');
  });

  it('do not include subjects of other forms', () => {
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

  it('yield the account that they were built for, and cost a quoted subject and a comma', () => {
    fc.assert(
      fc.property(name, (account) => {
        const subject = subjectOf(namespace, account);
        assert.equal(managedAccount(namespace, subject), account);
        assert.equal(memberCost(namespace, account), `${JSON.stringify(subject)},`.length);
        assert.ok(!/[*?$]/.test(subject.slice(1)));
      }),
    );
  });

  it('have a valid account name or none, whatever the text', () => {
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

  it('include a placeholder that no token can have as its subject', () => {
    assert.ok(!placeholderSubject.startsWith('system:serviceaccount:'));
    assert.doesNotMatch(placeholderSubject, /[*?$]/);
  });
});
