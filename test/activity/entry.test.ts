/** Proves which parts of an audit line an entry keeps: the named fields, within limits, and never a credential. */
import assert from 'node:assert/strict';
import { entryOf, entrySchema, repeated } from '../../src/activity/entry.ts';

const run = '646d27b817c28b5ea4b5b0c1';
const at = Date.parse('2026-11-21T12:00:00Z');
const arn = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
const made = (about: object, message = 'roles granted', owner?: string) =>
  entryOf({ about: { ...about }, message, at }, 'r.1', 'r', () => owner);

describe('an entry of the activity record', () => {
  it('has the user, the granted and the refused roles of a grant', () => {
    const about = {
      ...{ audit: 'grant', request_id: 'q', user: 'alice', user_id: 'u1', run: `run-${run}`, decision: 'granted' },
      ...{ accounts: ['a'], granted: [arn('t')], organizations: [{ name: 'acme', id: 'o1' }, { name: 'b' }] },
      refused: [{ kind: 'refused', target: arn('x'), code: 'role_not_found', detail: 'no such role' }],
    };
    assert.deepEqual(made(about), {
      ...{ id: 'r.1', at: '2026-11-21T12:00:00.000Z', kind: 'grant', decision: 'granted', summary: 'roles granted' },
      ...{ replica: 'r', request_id: 'q', user: 'alice', user_id: 'u1', run_id: run, service_accounts: ['a'] },
      ...{ organizations: [{ name: 'acme', id: 'o1' }, { name: 'b' }], roles: [arn('t')] },
      refused: [{ iam_role_arn: arn('x'), code: 'role_not_found' }],
    });
  });

  it('has the roles of a mapping before and after, and whether it was changed or deleted', () => {
    const mapping = (name: string) => ({ iam_role_arn: arn(name), proxy_iam_role_arn: arn(`${name}-proxy`) });
    const change = (before: unknown, after: unknown) => made({ audit: 'mapping', org: 'acme', before, after });
    const changed = change([mapping('a')], [mapping('b')]);
    assert.deepEqual(changed.roles, [arn('a'), arn('a-proxy'), arn('b'), arn('b-proxy')]);
    assert.equal(changed.decision, 'changed');
    assert.equal(change([mapping('a')], []).decision, 'deleted');
    assert.equal(change(undefined, [mapping('a')]).domino_org, 'acme');
  });

  it('is marked as cut where a name, an id or another text is too long', () => {
    for (const about of [
      { roles: ['x'.repeat(641)] },
      { accounts: ['x'.repeat(641)] },
      { organizations: [{ name: 'x'.repeat(254) }] },
      { organizations: [{ name: 'acme', id: 'x'.repeat(65) }] },
      { reason: 'x'.repeat(301) },
    ]) {
      assert.equal(made({ audit: 'grant', ...about }).cut, true, Object.keys(about).join());
    }
    assert.equal(made({ audit: 'grant', roles: ['x'.repeat(640)] }).cut, undefined);
  });

  it('names the user of a run that an administrator revoked', () => {
    const about = { audit: 'revocation', user: 'admin', run, decision: 'revoked', reason: 'a lost laptop' };
    assert.equal(made(about, 'run revoked', 'alice').of_user, 'alice');
    assert.equal(made({ ...about, user: 'alice' }, 'run revoked', 'alice').of_user, undefined);
  });

  it('omits unknown fields, such as tokens', () => {
    const secret = 'eyJhbGciOiJSUzI1NiJ9.secret.signature';
    const hidden = {
      token: secret,
      authorization: secret,
      apiKey: secret,
      body: { token: secret },
      err: new Error(secret),
    };
    const nested = [{ target: arn('x'), code: 'c', token: secret }];
    const before = { iam_role_arn: arn('a'), token: secret };
    const entry = made({ audit: 'grant', user: 'alice', run, ...hidden, refused: nested, before });
    assert.doesNotMatch(JSON.stringify(entry), /secret/);
  });

  it('is made of any line without an exception, and can be read back', () => {
    const odd = [
      null,
      undefined,
      1,
      {},
      [],
      [[]],
      [null],
      { name: 1 },
      '__proto__',
      'x'.repeat(10_000),
      Array(5_000).fill('a'),
    ];
    const fields = [
      'audit',
      'user',
      'run',
      'org',
      'organizations',
      'accounts',
      'granted',
      'refused',
      'before',
      'after',
    ];
    for (const value of odd) {
      const all = Object.fromEntries([...fields, 'roles', 'missing', 'extra', 'decision'].map((name) => [name, value]));
      for (const about of [all, ...fields.map((name) => ({ audit: 'grant', [name]: value }))]) {
        const entry = made(about);
        assert.deepEqual(entrySchema.parse(JSON.parse(JSON.stringify(entry))), entry);
        assert.ok(JSON.stringify(entry).length < 40_000);
      }
    }
  });

  it('is marked as cut where a list is too long', () => {
    const granted = Array.from({ length: 30 }, (_, index) => arn(`role-${index}`));
    const entry = made({ audit: 'grant', run, granted });
    assert.equal(entry.roles?.length, 20);
    assert.equal(entry.cut, true);
  });

  it('repeats an earlier entry unless its outcome differs', () => {
    const grant = (more: object) => made({ audit: 'grant', user_id: 'u1', run, granted: [arn('a')], ...more });
    const one = repeated(grant({ request_id: 'a' }));
    assert.deepEqual(repeated(grant({ request_id: 'b' })), one);
    const other = repeated(grant({ granted: [arn('b')] }));
    assert.equal(other?.about, one?.about);
    assert.notEqual(other?.says, one?.says);
    assert.equal(repeated(made({ audit: 'mapping', org: 'acme' })), undefined);
  });
});
