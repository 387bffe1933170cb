/** Proves that revoke_run reports no run as removed while its token works at a role without a status. STS decides. */
import assert from 'node:assert/strict';
import { AwsError } from '../../src/aws/error.ts';
import { unpublishedWaysIn } from '../../src/proxy-roles/unpublished-roles.ts';
import type { HeldTokens } from '../../src/proxy-roles/ways-in.ts';
import { FakeClock, until } from '../support/clock.ts';
import { mapRoles, startTokenWorld, workingToken } from '../support/role-tokens.ts';
import { assumes } from '../support/roles.ts';
import { scope } from '../support/trust-policies.ts';
import { clusterAccount, type Replica, runId, type World } from '../support/world.ts';

/** The statement that docs/role-tokens.md gives to the owner of a role. */
const ownersTrust = (audience: string, issuer: string) => ({
  Version: '2012-10-17',
  Statement: [
    {
      Sid: 'IrsaRoleTokens',
      Effect: 'Allow',
      Principal: { Federated: `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer}` },
      Action: 'sts:AssumeRoleWithWebIdentity',
      Condition: {
        StringEquals: { [`${issuer}:aud`]: audience },
        StringLike: { [`${issuer}:sub`]: 'system:serviceaccount:domino-compute:*' },
      },
    },
  ],
});

describe('a revoked run that holds a token of an unmanaged role', () => {
  let world: World;
  let replica: Replica;
  let proxy: string;
  let target: string;

  beforeEach(async () => {
    ({ world, replica, proxy, target } = await startTokenWorld(['alice']));
    world.aws.setTrust(clusterAccount, 'list', ownersTrust('irsa/list', world.environment.OIDC_PROVIDER ?? ''));
  });
  afterEach(() => world.stop());

  const unmap = () => replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
  const statusCode = async () => {
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxy)}`;
    return (await replica.call('GET', path, { as: 'admin' })).status;
  };
  const keepElsewhere = () => {
    const pair = { iam_role_arn: target, proxy_iam_role_arn: proxy };
    return mapRoles(replica, 'acme', { ...pair, carrier: 'token', update_iam_role_trust_policy: false });
  };
  const revoke = (query = '') =>
    replica.call('POST', `/revoke_run${query}`, { as: 'admin', body: { run_id: runId(1) } });
  const tokenOf = ({ pod }: { pod: string }) => workingToken({ replica, proxy }, { run: runId(1), pod });

  it('is reported as removed only after the owner removes the statement, even if the mapping is deleted', async () => {
    await keepElsewhere();
    const token = await tokenOf(world.startRun(runId(1), 'alice'));
    const loses = async () => (await revoke('?dry_run=true')).body.loses as { proxy_iam_role_arn: string }[];
    await until(async () => (await loses())[0]?.proxy_iam_role_arn === proxy);
    await unmap();
    await until(async () => (await statusCode()) === 404, 20_000);
    const preview = await revoke('?dry_run=true');
    assert.deepEqual(preview.body.stays_in?.[0]?.code, 'kept_elsewhere', preview.text);
    const { body, text } = await revoke();
    assert.equal(await assumes(token, proxy), true);
    assert.deepEqual([body.left, body.still_in?.[0]?.code], [false, 'kept_elsewhere'], text);
    world.aws.setTrust(clusterAccount, 'list', {
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${clusterAccount}:root` }, Action: 'sts:AssumeRole' },
      ],
    });
    assert.equal(await assumes(token, proxy), false);
    assert.equal((await revoke()).body.left, true);
  }).timeout(60_000);

  it('is not reported as removed while the role is unread because IAM does not answer', async () => {
    world.aws.knobs.latencyMs = { GetRole: 8_000 };
    await keepElsewhere();
    const token = await tokenOf(world.startRun(runId(1), 'alice'));
    assert.equal(await statusCode(), 404);
    const { body, text } = await revoke();
    assert.equal(await assumes(token, proxy), true);
    assert.deepEqual([body.left, body.still_in?.[0]?.code], [false, 'pending'], text);
    world.aws.knobs.latencyMs = {};
  }).timeout(60_000);
});

describe('a role without a published status', () => {
  const now = Date.parse('2026-11-21T12:00:00Z');
  const arn = (name: string) => `arn:aws:iam::111111111111:role/${name}`;
  const open = JSON.stringify(ownersTrust('irsa/open', scope.issuer));

  it('counts as a way in while IAM does not answer, but not if deleted, closed or its tokens expired', async () => {
    const reads: string[] = [];
    const getTrustPolicy = async (role: string) => {
      reads.push(role);
      if (role === arn('gone')) throw new AwsError('role_not_found', 'gone');
      if (role === arn('unread')) throw new AwsError('unavailable', 'away');
      return role === arn('closed') ? JSON.stringify({ Version: '2012-10-17', Statement: [] }) : open;
    };
    const many = Array.from({ length: 12 }, (_, index) => `z${index}`);
    const names = ['gone', 'unread', 'closed', 'open', 'mapped', 'published', ...many];
    const held: HeldTokens = new Map<string, { arn: string; until?: string }[]>([
      ['run-1', names.map((name) => ({ arn: arn(name) }))],
      ['run-2', [{ arn: arn('over'), until: new Date(now - 1).toISOString() }]],
    ]);
    const ways = await unpublishedWaysIn(held, {
      iam: { getTrustPolicy },
      isPublished: (role) => role === arn('published'),
      mappings: () => ({ managedProxies: new Set([arn('mapped')]) }),
      trustScope: () => scope,
      clock: new FakeClock(now),
    });
    const codes = Object.fromEntries(ways.map((way) => [way.proxy_iam_role_arn.split('/')[1], way.code]));
    const { open: opened, mapped, unread, z9: last, ...others } = codes;
    assert.deepEqual([opened, mapped, unread, last], ['kept_elsewhere', 'pending', 'pending', 'pending']);
    assert.equal(Object.keys(others).length, many.length - 1);
    assert.ok(reads.length <= 10, 'the rate limit of reads belongs to the leader');
  });
});
