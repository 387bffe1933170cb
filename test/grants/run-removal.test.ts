/** Proves that a run is not said to have left while it is not known whose tokens the trust policies let in. */
import assert from 'node:assert/strict';
import { type RunRemovalDeps, untilRemoved } from '../../src/grants/run-removal.ts';
import type { TrustStatus } from '../../src/proxy-roles/status.ts';
import type { TrustScope } from '../../src/trust-policy/document.ts';
import { FakeClock } from '../support/clock.ts';

describe('the removal of a run', () => {
  const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLE';
  const scope: TrustScope = {
    issuer,
    audience: 'sts.amazonaws.com',
    providerArn: `arn:aws:iam::111111111111:oidc-provider/${issuer}`,
    namespace: 'domino-compute',
  };
  const status = {
    role_arn: 'arn:aws:iam::111111111111:role/acme',
    members: {},
    refused: [],
    document: '{"Version":"2012-10-17","Statement":[]}',
  } as unknown as TrustStatus;

  const stillIn = (trustScope: TrustScope | undefined) => {
    const deps = {
      statuses: { all: () => [{ status }], get: () => ({ status }), onChange: () => () => undefined },
      accounts: { get: () => undefined },
      clock: new FakeClock(),
      trustScope: () => trustScope,
    };
    return untilRemoved(['run-1'], new Map(), [], deps as unknown as RunRemovalDeps);
  };

  it('is over where no published document lets it in', async () => {
    assert.deepEqual(await stillIn(scope), []);
  });

  it('is pending in every role while the AWS account is not known', async () => {
    const ways = await stillIn(undefined);
    assert.deepEqual(
      ways.map(({ proxy_iam_role_arn, code }) => [proxy_iam_role_arn, code]),
      [[status.role_arn, 'pending']],
    );
  });
});
