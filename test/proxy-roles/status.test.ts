/** Proves the published form of a proxy role's status, and the names of the ConfigMaps that hold it. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { statusName, type TrustStatus, trustStatusForm } from '../../src/proxy-roles/status.ts';

const status: TrustStatus = {
  role_arn: 'arn:aws:iam::111111111111:role/team/acme-read',
  members: { 'run-646d27b817c28b5ea4b5b0c1': { want: 'w1', since: '2026-11-21T12:00:00.000Z' } },
  refused: [{ account: 'alice', want: 'w2', target: 't', code: 'trust_policy_full', detail: 'no room' }],
  characters_used: 457,
  characters_allowed: 2048,
  written_at: '2026-11-21T12:00:00.000Z',
  error: { code: 'throttled', detail: 'later', at: '2026-11-21T12:00:00.000Z' },
};

describe('trust status', () => {
  it('reads back as it was written', () => {
    assert.deepEqual(trustStatusForm.parse(trustStatusForm.data(status)), status);
    const { written_at: _at, error: _error, ...least } = status;
    assert.deepEqual(trustStatusForm.parse(trustStatusForm.data(least)), least);
  });

  it('is undefined when the ConfigMap holds something else', () => {
    const [key = ''] = Object.keys(trustStatusForm.data(status));
    for (const text of ['', 'x', 'null', '[]', '{}', JSON.stringify({ ...status, members: ['a'] })]) {
      assert.equal(trustStatusForm.parse({ [key]: text }), undefined, text);
    }
    assert.equal(trustStatusForm.parse({}), undefined);
    assert.equal(trustStatusForm.parse({ other: JSON.stringify(status) }), undefined);
    assert.equal(trustStatusForm.parse({ [key]: JSON.stringify({ ...status, characters_used: '457' }) }), undefined);
  });

  it('has a readable ConfigMap name', () => {
    assert.match(statusName(status.role_arn), /^irsa-trust-acme-read-[0-9a-f]{12}$/);
    assert.match(statusName('arn:aws:iam::111111111111:role/+,='), /^irsa-trust-[0-9a-f]{12}$/);
  });

  it('has a name of its own for roles that differ only in path, account, partition, case or punctuation', () => {
    const arns = [
      'arn:aws:iam::111111111111:role/acme-read',
      'arn:aws:iam::222222222222:role/acme-read',
      'arn:aws-cn:iam::111111111111:role/acme-read',
      'arn:aws:iam::111111111111:role/team/acme-read',
      'arn:aws:iam::111111111111:role/Acme-Read',
      'arn:aws:iam::111111111111:role/acme_read',
      `arn:aws:iam::111111111111:role/${'x'.repeat(63)}a`,
      `arn:aws:iam::111111111111:role/${'x'.repeat(63)}b`,
    ];
    assert.equal(new Set(arns.map(statusName)).size, arns.length);
  });

  it('has a name that Kubernetes accepts', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[A-Za-z0-9+=,.@_-]{1,64}$/), (name) => {
        const named = statusName(`arn:aws:iam::111111111111:role/${name}`);
        assert.match(named, /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/);
        assert.ok(named.length <= 253);
      }),
    );
  });
});
