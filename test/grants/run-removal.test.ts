/** Proves that a run is reported as removed only once the trust policies are known to admit none of its tokens. */
import assert from 'node:assert/strict';
import { heldBy, type RunRemovalDeps, readAccounts, untilRemoved } from '../../src/grants/run-removal.ts';
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
      mappings: { current: () => ({}) },
      clock: new FakeClock(),
      trustScope: () => trustScope,
    };
    return untilRemoved(['run-1'], new Map(), [], deps as unknown as RunRemovalDeps);
  };

  it('is complete when no published document admits the run', async () => {
    assert.deepEqual(await stillIn(scope), []);
  });

  it('is pending in every role while the AWS account is unknown', async () => {
    const ways = await stillIn(undefined);
    assert.deepEqual(
      ways.map(({ proxy_iam_role_arn, code }) => [proxy_iam_role_arn, code]),
      [[status.role_arn, 'pending']],
    );
  });

  it('is answered after five seconds, even if the leader and IAM do nothing', async () => {
    const statement = {
      Effect: 'Allow',
      Principal: { Federated: scope.providerArn },
      Action: 'sts:AssumeRoleWithWebIdentity',
      Condition: { StringLike: { [`${issuer}:aud`]: scope.audience, [`${issuer}:sub`]: '*:domino-compute:run-1' } },
    };
    const document = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    const staying = { ...status, members: { 'run-1': { want: '1', since: '' } }, document };
    const clock = new FakeClock();
    const published = (arn: string) => (arn === status.role_arn ? { status: staying } : undefined);
    const deps = {
      statuses: { all: () => [{ status: staying }], get: published, onChange: () => () => undefined },
      accounts: { get: () => undefined },
      mappings: { current: () => ({ managedProxies: new Set() }) },
      iam: { getTrustPolicy: () => new Promise<string>(() => undefined) },
      clock,
      trustScope: () => scope,
    };
    const other = 'arn:aws:iam::111111111111:role/other';
    const held = new Map([['run-1', [{ arn: other }]]]);
    let ways: unknown[] | undefined;
    void untilRemoved(['run-1'], held, [], deps as unknown as RunRemovalDeps).then((found) => {
      ways = found.map(({ proxy_iam_role_arn: arn, code }) => [arn, code]);
    });
    await clock.advance(4_999);
    assert.equal(ways, undefined);
    await clock.advance(1);
    assert.deepEqual(ways, [
      [status.role_arn, 'pending'],
      [other, 'pending'],
    ]);
  });

  it('counts tokens that either the watch or the API server shows for a service account', async () => {
    const role = { target: 'arn:aws:iam::222222222222:role/list', arn: status.role_arn, org: 'acme' };
    const request = { id: '1', run: '1', user: { id: 'u', name: 'alice' }, at: '', roles: [], tokens: [role] };
    const carrying = { wanted: JSON.stringify(request) };
    const cases = [
      { watched: carrying, read: async () => undefined },
      { watched: undefined, read: async () => carrying },
      { watched: carrying, read: () => Promise.reject(new Error('the API server is away')) },
    ];
    for (const { watched, read } of cases) {
      const deps = { accounts: { get: () => watched }, kubernetes: { getServiceAccount: read } };
      const accounts = await readAccounts(['run-1'], deps as unknown as RunRemovalDeps);
      assert.deepEqual([...heldBy(['run-1'], { accounts } as unknown as RunRemovalDeps).keys()], ['run-1']);
    }
  });

  it('counts the tokens of an earlier revocation and those of the current request', () => {
    const request = { id: '1', run: '1', user: { id: 'u', name: 'alice' }, at: '', roles: [] };
    const tokens = [{ target: 'arn:aws:iam::222222222222:role/read', arn: 'read', org: 'acme' }];
    const accounts = { get: () => ({ wanted: JSON.stringify({ ...request, tokens }) }) };
    const revoked = { until: '2026-11-29T12:00:00.000Z', held: { 'run-1': ['list'], 'run-1-2': ['list'] } };
    const held = heldBy(['run-1'], { accounts } as unknown as RunRemovalDeps, revoked);
    assert.deepEqual(
      [...held].map(([name, list]) => [name, list.map(({ arn }) => arn)]),
      [
        ['run-1', ['list', 'read']],
        ['run-1-2', ['list']],
      ],
    );
  });
});
