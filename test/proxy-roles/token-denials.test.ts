/** Proves that who is shut out of a role's tokens stays out until the last one has expired. STS is the judge. */
import assert from 'node:assert/strict';
import type { V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { until } from '../support/clock.ts';
import { assumes } from '../support/roles.ts';
import { clusterAccount, emptyLists, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('a revoked run that holds a role token', () => {
  let world: World;
  let replica: Replica;
  let proxy: string;
  let target: string;
  let next = 0;

  beforeEach(async () => {
    world = await startWorld({
      ROLE_TOKEN_SECONDS: '600',
      LEASE_SECONDS: '60',
      IAM_READS_PER_SECOND: '100',
      IAM_WRITES_PER_SECOND: '100',
    });
    replica = await world.startReplica();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    const pair = world.addRolePair('list');
    [target, proxy] = [pair.target, pair.proxies[0] ?? ''];
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['sts.amazonaws.com', 'irsa/list'] });
    await map({ iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' });
  });
  afterEach(() => world.stop());

  async function map(...data: object[]) {
    const body = { domino_org: 'acme', role_data: data };
    const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    assert.equal(answer.status, 200, answer.text);
  }
  const mapByEntries = () => map({ iam_role_arn: target, proxy_iam_role_arn: proxy });
  function start(options: { account?: string } = {}) {
    next += 1;
    const run = runId(next);
    return { run, ...world.startRun(run, 'alice', options) };
  }
  async function tokenFor({ run, pod }: { run: string; pod: string }): Promise<string> {
    const ask = () => replica.call('POST', '/role_tokens', { as: 'alice', body: { run_id: run, pod } });
    let token: string | undefined;
    await until(async () => {
      token = (await ask()).body.tokens?.[0]?.token;
      return token !== undefined && (await assumes(token, proxy));
    });
    return token ?? '';
  }
  async function revoked(options: { account?: string } = {}) {
    const run = start(options);
    const token = await tokenFor(run);
    const answer = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } });
    assert.equal(answer.body.left, true, answer.text);
    assert.equal(await assumes(token, proxy), false);
    return { ...run, token };
  }
  const document = () => JSON.stringify(world.aws.role(clusterAccount, 'list').document);
  /** The leader has compared the role with IAM, with all that it knows. */
  async function compared() {
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxy)}`;
    assert.equal((await replica.call('GET', path, { as: 'admin' })).status, 200);
  }
  const written = () => world.aws.role(clusterAccount, 'list').history.map((one) => JSON.stringify(one.document));

  it('stays out when the run has ended, until the token has expired', async () => {
    const { run, account, token } = await revoked();
    world.endRun(run);
    // Another run shows that the leader has gone on.
    await tokenFor(start());
    await compared();
    assert.equal(await assumes(token, proxy), false, 'a copied token works again');
    world.clock.skip(700_000);
    await until(() => !document().includes(`:${account}"`), 20_000);
  }).timeout(40_000);

  it('keeps nobody out who uses its service account later, by an entry', async () => {
    const account = 'static-alice';
    const { run } = await revoked({ account });
    world.endRun(run);
    // As the leader clears it, from an account that lives on.
    const stored = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const annotations = { ...stored?.metadata?.annotations, [wantedAnnotation]: '{"cleared":true}' };
    world.kubernetes.put('serviceaccounts', { ...stored, metadata: { ...stored?.metadata, annotations } });
    // A run that holds a token keeps the statement, and with it the Deny.
    const other = await tokenFor(start());
    await mapByEntries();
    const later = start({ account });
    const ask = () => replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: later.run } });
    await until(async () => (await ask()).text.includes('[profile list]'));
    await until(() => world.canAssume(account, proxy));
    assert.ok(await assumes(other, proxy));
  });

  it('invariant 3: stays out while lists are empty by mistake', async () => {
    const { account, token } = await revoked();
    const denials = written().length;
    await emptyLists(world, ['pods', 'serviceaccounts']);
    await compared();
    world.kubernetes.knobs.emptyLists = false;
    await compared();
    assert.equal(await assumes(token, proxy), false);
    for (const one of written().slice(denials)) assert.ok(one.includes(`:${account}"`), one);
  });

  it('invariant 3: stays out, and nobody else is, where the mapping has moved and lists are empty by mistake', async () => {
    const { account, token } = await revoked();
    const other = await tokenFor(start());
    await mapByEntries();
    await compared();
    const denials = written().length;
    await emptyLists(world, ['pods']);
    await compared();
    world.kubernetes.knobs.emptyLists = false;
    await compared();
    assert.deepEqual([await assumes(token, proxy), await assumes(other, proxy)], [false, true]);
    for (const one of written().slice(denials)) assert.ok(one.includes(`:${account}"`), one);
  });
});
