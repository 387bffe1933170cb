/** Proves that revoke_run agrees with STS: for altered statements of the service, and for unmanaged open subjects. */
import assert from 'node:assert/strict';
import { until } from '../support/clock.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

interface Statement {
  Action: string | string[];
  Condition: Record<string, Record<string, string | string[]>>;
}

describe('revoke_run', () => {
  let world: World;
  let replica: Replica;
  let next = 25_000;

  before(async () => {
    const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100' };
    world = await startWorld({ ...rates, RESYNC_SECONDS: '1' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    replica = await world.startReplica();
  });
  afterEach(() => {
    world.aws.knobs.staleReadMs = 0;
  });
  after(() => world.stop());

  const arnOf = (name: string) => `arn:aws:iam::${clusterAccount}:role/${name}`;
  const documentOf = (name: string) =>
    structuredClone(world.aws.role(clusterAccount, name).document) as { Version: string; Statement: Statement[] };
  const revoke = async (run: string) =>
    (await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } })).body;
  const roleOf = async (name: string) => {
    const { body } = await replica.call('GET', '/trust_status', { as: 'admin' });
    return body.proxy_roles.find((role: { proxy_iam_role_arn: string }) => role.proxy_iam_role_arn === arnOf(name));
  };
  async function granted() {
    const run = runId(next++);
    const { account } = world.startRun(run, 'alice');
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.match(answer.text, /\[profile /);
    return { run, account };
  }

  const alterations: [string, (statement: Statement, issuer: string) => void][] = [
    [
      'a second action',
      (statement) => Object.assign(statement, { Action: [statement.Action, 'sts:TagSession'].flat() }),
    ],
    [
      'a condition that is met',
      ({ Condition }, issuer) =>
        Object.assign(Condition, { StringEquals: { [`${issuer}:aud`]: ['sts.amazonaws.com'] } }),
    ],
    [
      'a condition on the network',
      ({ Condition }) => Object.assign(Condition, { StringEqualsIfExists: { 'aws:SourceVpc': 'vpc-1' } }),
    ],
  ];
  for (const [index, [what, alter]] of alterations.entries()) {
    it(`removes a run from a statement of the service to which another tool added ${what}`, async () => {
      const name = `altered-${index}`;
      await world.map(replica, 'acme', world.addRolePair(name));
      const [first, second] = [await granted(), await granted()];
      const document = documentOf(name);
      for (const statement of document.Statement) alter(statement, world.issuer.issuer);
      world.aws.setTrust(clusterAccount, name, document);
      const { left } = await revoke(first.run);
      assert.equal(await world.canAssume(first.account, arnOf(name)), false);
      assert.equal(left, true);
      assert.equal(await world.canAssume(second.account, arnOf(name)), true);
      world.endRun(second.run);
      await until(async () => !(await world.canAssume(second.account, arnOf(name))));
      const size = JSON.stringify(world.aws.role(clusterAccount, name).document).length;
      world.endRun((await granted()).run);
      await until(async () => JSON.stringify(world.aws.role(clusterAccount, name).document).length <= size);
    });
  }

  it('does not report the run as removed while IAM shows stale documents', async () => {
    await world.map(replica, 'acme', world.addRolePair('stale'));
    const { run, account } = await granted();
    world.aws.knobs.staleReadMs = 60_000;
    const { left, still_in } = await revoke(run);
    assert.equal(await world.canAssume(account, arnOf('stale')), false);
    assert.deepEqual([left, still_in[0].code], [false, 'pending']);
    world.aws.knobs.staleReadMs = 0;
    await until(async () => (await revoke(run)).left === true);
  }).timeout(40_000);

  it('names the unmanaged subject that still admits the run, as status and dry run do, and logs it once', async () => {
    const pair = world.addRolePair('open');
    const document = documentOf('open');
    const subject = 'system:serviceaccount:domino-compute:*';
    const opened = structuredClone(document.Statement[0]) as Statement;
    opened.Condition = {
      StringLike: { [`${world.issuer.issuer}:aud`]: 'sts.amazonaws.com', [`${world.issuer.issuer}:sub`]: subject },
    };
    world.aws.setTrust(clusterAccount, 'open', { ...document, Statement: [...document.Statement, opened] });
    await world.map(replica, 'acme', pair);
    const { run, account } = await granted();
    const { left, still_in } = await revoke(run);
    assert.equal(await world.canAssume(account, arnOf('open')), true);
    assert.deepEqual([left, still_in.length, still_in[0].code], [false, 1, 'open_subject']);
    assert.ok(still_in[0].detail.includes(subject));

    const named = [{ statement: 1, subject }];
    assert.deepEqual((await roleOf('open')).open_subjects, named);
    const entry = { iam_role_arn: pair.target, proxy_iam_role_arn: pair.proxies[0] };
    const body = { domino_org: 'acme', role_data: [entry] };
    const preview = await replica.call('POST', '/update_multirole_mapping?dry_run=true', { as: 'admin', body });
    assert.deepEqual(preview.body.proxy_roles[0].open_subjects, named);
    const logged = () =>
      replica.log.filter(({ msg, role }) => role === arnOf('open') && /lets in more than/.test(String(msg)));
    const compared = world.aws.calls.GetRole ?? 0;
    await until(() => (world.aws.calls.GetRole ?? 0) > compared + 2);
    assert.equal(logged().length, 1);
    assert.equal(logged()[0]?.level, 'warn');
  });

  it('finds an open subject in a long document of an unmanaged role', async () => {
    const pair = world.addRolePair('wide');
    await world.map(replica, 'acme', pair);
    const entry = {
      iam_role_arn: pair.target,
      proxy_iam_role_arn: pair.proxies[0],
      update_iam_role_trust_policy: false,
    };
    await granted();
    const body = { domino_org: 'acme', role_data: [entry] };
    assert.equal((await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body })).status, 200);
    const opened = documentOf('wide');
    for (const { Condition } of opened.Statement) {
      for (const keys of Object.values(Condition ?? {})) {
        const subjects = keys[`${world.issuer.issuer}:sub`];
        // The first run's subject stays, so that the service keeps checking the role.
        if (subjects) keys[`${world.issuer.issuer}:sub`] = [subjects, '*:domino-compute:*'].flat();
      }
    }
    world.aws.setTrust(clusterAccount, 'wide', `${JSON.stringify(opened).slice(0, -1)}${' '.repeat(50_000)}}`);
    await until(async () => (await roleOf('wide'))?.open_subjects?.length === 1);
    const { run, account } = await granted();
    const { left, still_in } = await revoke(run);
    assert.equal(await world.canAssume(account, arnOf('wide')), true);
    assert.deepEqual([left, still_in.map(({ code }: { code: string }) => code)], [false, ['open_subject']]);
  });
});
