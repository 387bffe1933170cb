/** Proves that a role which IAM refuses to change stays on record for as long as it may have members. */
import assert from 'node:assert/strict';
import { statusName, type TrustStatus, trustStatusForm } from '../../src/proxy-roles/status.ts';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Document {
  Version: string;
  Statement: object[];
}

describe('a role that IAM refuses to change', () => {
  let world: World;
  let replica: Replica;
  let next = 21_000;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, RESYNC_SECONDS: '1', LEASE_SECONDS: '30' });
    world.domino.addUser({ name: 'alice', orgs: ['acme', 'labs'] });
    replica = await world.startReplica();
  });
  after(() => world.stop());

  const arnOf = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;
  const published = (name: string): TrustStatus | undefined => {
    const data = world.kubernetes.get<{ data?: Record<string, string> }>(
      'configmaps',
      'domino-field',
      statusName(arnOf(name)),
    )?.data;
    return data && trustStatusForm.parse(data);
  };
  const ask = (run: string) => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
  const unmap = () => replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
  const documentOf = (name: string) => world.aws.role(clusterAccount, name).document as unknown as Document;

  async function granted(name: string) {
    await world.map(replica, 'acme', world.addRolePair(name));
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    assert.match((await ask(run)).text, /\[profile /);
    return { run, account };
  }

  /** A statement for a role that was deleted: IAM shows the role's id, and rejects each document that has it. */
  const deletedPrincipal = { Effect: 'Allow', Principal: { AWS: 'AROAEXAMPLEDELETED123' }, Action: 'sts:AssumeRole' };

  it('stays on record after its mapping is deleted, until its members are removed', async () => {
    const { run, account } = await granted('stuck');
    const { Version, Statement } = documentOf('stuck');
    world.aws.setTrust(clusterAccount, 'stuck', { Version, Statement: [...Statement, deletedPrincipal] });
    await unmap();
    await until(() => published('stuck')?.error?.code === 'malformed_trust_policy');
    assert.deepEqual(Object.keys(published('stuck')?.members ?? {}), [account]);

    const revoked = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } });
    assert.equal(revoked.body.left, false);
    assert.equal(await world.canAssume(account, arnOf('stuck')), true);

    // The next leader keeps it on record too.
    const before = replica;
    replica = await world.startReplica();
    await before.stop();
    await until(() => replica.log.some(({ msg }) => String(msg).startsWith('holding the lease')), 15_000);
    const refusedAt = published('stuck')?.error?.at;
    await until(() => published('stuck')?.error?.at !== refusedAt);
    assert.deepEqual(Object.keys(published('stuck')?.members ?? {}), [account]);

    world.aws.setTrust(clusterAccount, 'stuck', { Version, Statement });
    await until(async () => !(await world.canAssume(account, arnOf('stuck'))));
    // IAM may show a document from before the new leader for 15 s.
    world.clock.skip(16_000);
    await until(() => published('stuck') === undefined);
  });

  it('stays on record while IAM refuses to show its document, and is forgotten once it is deleted', async () => {
    const { account } = await granted('denied');
    world.aws.knobs.failRate = { GetRole: { code: 'AccessDenied', rate: 1 } };
    await unmap();
    await until(() => published('denied')?.error?.code === 'access_denied');
    assert.deepEqual(Object.keys(published('denied')?.members ?? {}), [account]);
    world.aws.knobs.failRate = { GetRole: { code: 'NoSuchEntity', rate: 1 } };
    await until(() => published('denied') === undefined);
    world.aws.knobs.failRate = {};
  });
});
