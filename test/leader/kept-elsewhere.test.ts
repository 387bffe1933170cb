/** Proves that members of a role that becomes unmanaged are reported, and that its subjects are removed on request. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('a proxy role that becomes unmanaged', () => {
  let world: World;
  let replica: Replica;
  let next = 23_000;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, RESYNC_SECONDS: '1', LEASE_SECONDS: '60' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const arnOf = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;
  const writes = (name: string) => world.aws.role(clusterAccount, name).history.length;
  const revoke = async (run: string) =>
    (await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } })).body;
  const roles = async () =>
    (await replica.call('GET', '/trust_status', { as: 'admin' })).body.proxy_roles as {
      proxy_iam_role_arn: string;
      kept_elsewhere?: boolean;
      members: { service_account: string }[];
    }[];
  const roleOf = async (name: string) => (await roles()).find((role) => role.proxy_iam_role_arn === arnOf(name));

  async function granted(name: string) {
    const pair = world.addRolePair(name);
    await world.map(replica, 'acme', pair);
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.match(answer.text, /\[profile /);
    const entry = {
      iam_role_arn: pair.target,
      proxy_iam_role_arn: pair.proxies[0],
      update_iam_role_trust_policy: false,
    };
    const handOver = (query = '') =>
      replica.call('POST', `/update_multirole_mapping${query}`, {
        as: 'admin',
        body: { domino_org: 'acme', role_data: [entry] },
      });
    return { run, account, handOver };
  }

  it('is no longer written, and its runs are not reported as removed until its owner removes them', async () => {
    const { run, account, handOver } = await granted('handed');
    const expected = [{ proxy_iam_role_arn: arnOf('handed'), service_accounts: [account], removed: false }];
    assert.deepEqual((await handOver('?dry_run=true')).body.handed_over, expected);
    const before = writes('handed');
    assert.deepEqual((await handOver()).body.handed_over, expected);
    await until(async () => (await roleOf('handed'))?.kept_elsewhere === true);

    const { left, still_in } = await revoke(run);
    assert.equal(left, false);
    const { detail, ...rest } = still_in[0];
    assert.deepEqual(rest, {
      proxy_iam_role_arn: arnOf('handed'),
      service_accounts: [account],
      code: 'kept_elsewhere',
    });
    assert.match(detail, /its owner has to remove the subject/);
    assert.equal(await world.canAssume(account, arnOf('handed')), true);
    assert.equal(writes('handed'), before);

    // Its owner does so: the leader sees it, and forgets the role.
    const text = JSON.stringify(world.aws.role(clusterAccount, 'handed').document);
    world.aws.setTrust(clusterAccount, 'handed', JSON.parse(text.replaceAll(`*:domino-compute:${account}`, 'gone')));
    await until(async () => (await roleOf('handed')) === undefined);
    assert.equal((await revoke(run)).left, true);
  });

  it('loses the service’s subjects first when the administrator asks for it', async () => {
    const { account, handOver } = await granted('emptied');
    const { body } = await handOver('?remove_subjects=true');
    assert.deepEqual(body.handed_over, [
      { proxy_iam_role_arn: arnOf('emptied'), service_accounts: [account], removed: true },
    ]);
    await until(async () => !(await world.canAssume(account, arnOf('emptied'))));
    await until(async () => (await roleOf('emptied')) === undefined);
    const before = writes('emptied');
    await handOver();
    assert.equal(writes('emptied'), before);
  });

  it('loses its statements for tokens once if the administrator asks for it, and is never written again', async () => {
    const { target } = world.addRolePair('tokens');
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['sts.amazonaws.com', 'irsa/tokens'] });
    const map = (query: string, update_iam_role_trust_policy: boolean) => {
      const pair = { iam_role_arn: target, proxy_iam_role_arn: arnOf('tokens'), carrier: 'token' };
      const body = { domino_org: 'acme', role_data: [{ ...pair, update_iam_role_trust_policy }] };
      return replica.call('POST', `/update_multirole_mapping${query}`, { as: 'admin', body });
    };
    const text = () => JSON.stringify(world.aws.role(clusterAccount, 'tokens').document);
    const compared = async () =>
      (
        await replica.call('GET', `/trust_status?proxy_iam_role_arn=${encodeURIComponent(arnOf('tokens'))}`, {
          as: 'admin',
        })
      ).body;
    await map('', true);
    await until(() => text().includes('IrsaRoleTokens'));
    const own = world.aws.role(clusterAccount, 'tokens').document;
    assert.equal((await map('?remove_subjects=true', false)).status, 200);
    await until(() => !text().includes('IrsaRoleTokens'));
    await compared();
    const before = writes('tokens');

    // Its owner writes the statement again, also in a narrower form.
    const narrower = JSON.stringify(own).replace('domino-compute:*', 'domino-compute:run-*');
    for (const document of [own, JSON.parse(narrower)]) {
      world.aws.setTrust(clusterAccount, 'tokens', document);
      for (let round = 0; round < 3; round += 1) assert.equal((await compared()).proxy_roles[0]?.kept_elsewhere, true);
      assert.equal(JSON.stringify(world.aws.role(clusterAccount, 'tokens').document), JSON.stringify(document));
    }
    const byOwner = 2;
    assert.equal(writes('tokens'), before + byOwner);

    // Another leader does not write it either.
    await replica.stop();
    replica = await world.startReplica();
    for (let round = 0; round < 3; round += 1) await compared();
    assert.equal(writes('tokens'), before + byOwner);
  }).timeout(60_000);
});
