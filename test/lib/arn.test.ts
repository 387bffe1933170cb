/** Proves which texts are ARNs of IAM roles, and what their parts are. */
import assert from 'node:assert/strict';
import fc from 'fast-check';
import { oidcProviderArn, parseRoleArn } from '../../src/lib/arn.ts';

describe('ARNs', () => {
  it('parseRoleArn returns the parts of an ARN, with and without a path', () => {
    assert.deepEqual(parseRoleArn('arn:aws:iam::111111111111:role/acme-read'), {
      arn: 'arn:aws:iam::111111111111:role/acme-read',
      partition: 'aws',
      account: '111111111111',
      pathAndName: 'acme-read',
      name: 'acme-read',
    });
    const { pathAndName, name } = parseRoleArn('arn:aws:iam::111111111111:role/team/data/reader') ?? {};
    assert.deepEqual([pathAndName, name], ['team/data/reader', 'reader']);
  });

  it('parseRoleArn accepts every partition', () => {
    for (const partition of ['aws', 'aws-us-gov', 'aws-cn', 'aws-eusc', 'aws-iso-b']) {
      assert.equal(parseRoleArn(`arn:${partition}:iam::111111111111:role/x`)?.partition, partition);
    }
  });

  it('parseRoleArn accepts every character that a role name may have, and 64 characters', () => {
    for (const name of ['A-z0_9', 'a+b', 'a=b', 'a,b', 'a.b', 'a@b', 'x'.repeat(64)]) {
      assert.equal(parseRoleArn(`arn:aws:iam::111111111111:role/${name}`)?.name, name);
    }
  });

  it('parseRoleArn rejects all other texts', () => {
    for (const text of [
      '',
      'acme-read',
      'arn:aws:iam::111111111111:user/x',
      'arn:aws:iam::111111111111:role/',
      'arn:aws:iam::111111111111:role//x',
      'arn:aws:iam::111111111111:role/x/',
      'arn:aws:iam::11111111111:role/x',
      'arn:aws:iam::1111111111111:role/x',
      'arn:aws:iam:us-east-1:111111111111:role/x',
      'arn:aws:sts::111111111111:assumed-role/x/y',
      'arn:AWS:iam::111111111111:role/x',
      'arn:azure:iam::111111111111:role/x',
      ' arn:aws:iam::111111111111:role/x',
      'arn:aws:iam::111111111111:role/x\n',
      'arn:aws:iam::111111111111:role/x]\n[profile y',
      'arn:aws:iam::111111111111:role/x*',
      'arn:aws:iam::111111111111:role/x#y',
      'arn:aws:iam::111111111111:role/ü',
      `arn:aws:iam::111111111111:role/${'x'.repeat(65)}`,
      `arn:aws:iam::111111111111:role/${'p/'.repeat(1100)}x`,
    ]) {
      assert.equal(parseRoleArn(text), undefined, JSON.stringify(text));
    }
  });

  it('parseRoleArn returns the ARN unchanged, without a character that could break an INI file or a policy', () => {
    fc.assert(
      fc.property(
        fc.string().map((text) => `arn:aws:iam::111111111111:role/${text}`),
        (text) => {
          const parsed = parseRoleArn(text);
          if (!parsed) return;
          assert.equal(parsed.arn, text);
          assert.match(text, /^[\w+=,.@:/-]+$/);
          assert.ok(parsed.pathAndName.endsWith(parsed.name));
        },
      ),
    );
  });

  it('oidcProviderArn has the issuer without a scheme', () => {
    assert.equal(
      oidcProviderArn('aws-us-gov', '111111111111', 'oidc.eks.us-gov-west-1.amazonaws.com/id/X'),
      'arn:aws-us-gov:iam::111111111111:oidc-provider/oidc.eks.us-gov-west-1.amazonaws.com/id/X',
    );
  });
});
