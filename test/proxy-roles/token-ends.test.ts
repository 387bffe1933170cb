/** Proves how long a Deny of role tokens stands, across mappings, leaders and the run's end. STS decides. */
import assert from 'node:assert/strict';
import type { V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { until } from '../support/clock.ts';
import { mapRoles, startTokenWorld } from '../support/role-tokens.ts';
import { assumes } from '../support/roles.ts';
import { clusterAccount, type Replica, runId, type World } from '../support/world.ts';

describe('a Deny of role tokens', () => {
  let world: World;
  let replica: Replica;
  let proxy: string;
  let target: string;
  let next = 0;

  beforeEach(async () => {
    ({ world, replica, proxy, target } = await startTokenWorld(['alice', 'bob']));
    await map('acme', byToken());
  });
  afterEach(() => world.stop());

  const byToken = (more: object = {}) => ({
    iam_role_arn: target,
    proxy_iam_role_arn: proxy,
    carrier: 'token',
    ...more,
  });
  const map = (org: string, ...data: object[]) => mapRoles(replica, org, ...data);
  const unmap = (org: string) =>
    replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: org } });
  function start(user = 'alice', options: { account?: string } = {}) {
    next += 1;
    const run = runId(next);
    return { run, user, ...world.startRun(run, user, options) };
  }
  /** A credential that is still valid after the clock has skipped ahead. */
  const bearer = (user: string) => ({
    headers: { Authorization: `Bearer ${world.domino.token(user, { exp: Math.floor(Date.now() / 1000) + 7_200 })}` },
  });
  const ask = ({ run, pod, user }: { run: string; pod: string; user: string }) =>
    replica.call('POST', '/role_tokens', { ...bearer(user), body: { run_id: run, pod } });
  const config = ({ run, user }: { run: string; user: string }) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as: user, body: { run_id: run, role_tokens: true } });
  const revoke = (run: string) => replica.call('POST', '/revoke_run', { ...bearer('admin'), body: { run_id: run } });
  async function tokenFor(one: { run: string; pod: string; user: string }): Promise<string> {
    let token: string | undefined;
    await until(async () => {
      token = (await ask(one)).body.tokens?.[0]?.token;
      return token !== undefined && (await assumes(token, proxy));
    }, 20_000);
    return token ?? '';
  }
  const document = () => JSON.stringify(world.aws.role(clusterAccount, 'list').document);
  /** Waits until the leader has compared the role with IAM. */
  async function compared() {
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(proxy)}`;
    const answer = await replica.call('GET', path, bearer('admin'));
    assert.equal(answer.status, 200);
    return answer;
  }

  it('does not deny tokens to a later run or another user on its service account', async () => {
    const account = 'static-one';
    const first = start('alice', { account });
    await tokenFor(first);
    await revoke(first.run);
    world.endRun(first.run);
    // As the leader clears the request of a service account that outlives its pods.
    const stored = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const annotations = { ...stored?.metadata?.annotations, [wantedAnnotation]: '{"cleared":true}' };
    world.kubernetes.put('serviceaccounts', { ...stored, metadata: { ...stored?.metadata, annotations } });
    const later = start('alice', { account });
    await until(async () => (await config(later)).text.includes('[profile '), 20_000);
    await tokenFor(later);
    // Another user, on a service account that still has the previous user's request.
    await revoke(later.run);
    world.endRun(later.run);
    const others = start('bob', { account });
    await tokenFor(others);
  }).timeout(60_000);

  it('of a role shared by two target roles lasts as long as the later of their tokens', async () => {
    const second = world.addRolePair('other').target;
    const asSecond = byToken({ iam_role_arn: second });
    await map('acme', byToken());
    await map('team', asSecond);
    world.domino.addUser({ name: 'alice', orgs: ['acme', 'team'] });
    world.domino.addUser({ name: 'carol', orgs: ['team'] });
    const run = start();
    await tokenFor(run);
    world.domino.addUser({ name: 'alice', orgs: ['team'] });
    world.clock.skip(6_000);
    await until(async () => (await ask(run)).body.tokens?.length === 1);
    world.clock.skip(590_000);
    const token = await tokenFor(run);
    assert.equal((await revoke(run.run)).body.left, true);
    assert.equal(await assumes(token, proxy), false);
    // The leader computes all roles anew, after the tokens of the first target role have expired.
    world.clock.skip(320_000);
    await tokenFor(start('carol'));
    await compared();
    assert.equal(await assumes(token, proxy), false, 'the token is valid for minutes more, and works again');
  }).timeout(60_000);

  it('returns when a deleted mapping is set again', async () => {
    const run = start();
    const token = await tokenFor(run);
    assert.equal((await revoke(run.run)).body.left, true);
    world.endRun(run.run);
    start();
    await unmap('acme');
    await until(() => !document().includes('IrsaRoleTokens'), 20_000);
    await until(
      () => world.kubernetes.list('configmaps').every(({ metadata }) => !metadata?.name?.startsWith('irsa-trust')),
      20_000,
    );
    await map('acme', byToken());
    await tokenFor(start());
    assert.equal(await assumes(token, proxy), false, 'a copied token works again');
  }).timeout(60_000);

  it('is written for a run that ends while IAM refuses writes, and only then reported as removed', async () => {
    const run = start();
    const token = await tokenFor(run);
    start();
    world.aws.knobs.failRate = { UpdateAssumeRolePolicy: { code: 'ServiceUnavailable', rate: 1 } };
    const answering = revoke(run.run);
    await until(() => world.kubernetes.get('configmaps', 'domino-field', 'irsa-revoked-runs') !== undefined, 20_000);
    world.endRun(run.run);
    const answer = await answering;
    const again = await revoke(run.run);
    const works = await assumes(token, proxy);
    world.aws.knobs.failRate = {};
    assert.equal(works, true);
    assert.deepEqual([answer.body.left, again.body.left], [false, false], answer.text + again.text);
    await until(async () => !(await assumes(token, proxy)), 20_000);
    assert.equal((await revoke(run.run)).body.left, true);
  }).timeout(60_000);

  it('is written while the API server does not confirm that the statement for tokens may be removed', async () => {
    const run = start();
    const token = await tokenFor(run);
    const other = await tokenFor(start());
    world.kubernetes.knobs.refuseListsOf = 'serviceaccounts';
    await unmap('acme');
    const kept = () => replica.log.some(({ msg }) => /role tokens are still let in/.test(String(msg)));
    await until(kept, 20_000);
    await revoke(run.run);
    // The leader checks the statement again.
    world.clock.skip(16_000);
    await until(async () => !(await assumes(token, proxy)), 10_000);
    assert.ok(await assumes(other, proxy));
    world.kubernetes.knobs.refuseListsOf = '';
  }).timeout(60_000);

  it('is written for a run that ended before a leader saw its revocation, and not reported too early', async () => {
    const run = start();
    const token = await tokenFor(run);
    world.kubernetes.knobs.freezeWatches = true;
    const answering = revoke(run.run);
    await until(() => world.kubernetes.get('configmaps', 'domino-field', 'irsa-revoked-runs') !== undefined, 20_000);
    await new Promise((resolve) => setTimeout(resolve, 200));
    world.endRun(run.run);
    await replica.stop();
    const answer = await answering.catch(() => undefined);
    assert.notEqual(answer?.body.left, true, answer?.text);
    world.kubernetes.knobs.freezeWatches = false;
    world.clock.skip(61_000);
    replica = await world.startReplica();
    await tokenFor(start());
    await compared();
    assert.equal(await assumes(token, proxy), false, 'a copied token works');
  }).timeout(60_000);

  it('is not reported for an unmanaged role, and that role is not written when its mapping is deleted', async () => {
    await until(() => document().includes('IrsaRoleTokens'), 20_000);
    const kept = world.addRolePair('kept');
    const arn = kept.proxies[0] ?? '';
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, {
      clientIds: ['sts.amazonaws.com', 'irsa/list', 'irsa/kept'],
    });
    const statement = JSON.parse(document().replaceAll('irsa/list', 'irsa/kept'));
    world.aws.setTrust(clusterAccount, 'kept', statement);
    const before = JSON.stringify(world.aws.role(clusterAccount, 'kept').document);
    const mapping = { iam_role_arn: kept.target, proxy_iam_role_arn: arn, carrier: 'token' };
    await map('team', { ...mapping, update_iam_role_trust_policy: false });
    world.domino.addUser({ name: 'carol', orgs: ['team'] });
    const run = start('carol');
    await until(async () => {
      const token = (await ask(run)).body.tokens?.[0]?.token;
      return token !== undefined && (await assumes(token, arn));
    }, 20_000);
    const path = `/trust_status?proxy_iam_role_arn=${encodeURIComponent(arn)}`;
    const told = async () => {
      const { body } = await replica.call('GET', path, { as: 'admin' });
      return (body.proxy_roles as { role_tokens?: { denied: string[] } }[])[0]?.role_tokens?.denied;
    };
    assert.deepEqual(await told(), []);
    const { body } = await revoke(run.run);
    assert.deepEqual([body.left, body.still_in?.[0]?.code], [false, 'kept_elsewhere']);
    assert.deepEqual(await told(), []);
    await unmap('team');
    start();
    world.endRun(run.run);
    const isForgotten = async () => (await replica.call('GET', path, { as: 'admin' })).status === 404;
    await until(isForgotten, 20_000);
    assert.equal(JSON.stringify(world.aws.role(clusterAccount, 'kept').document), before);
  }).timeout(60_000);

  it('is not reported as standing after a write without an answer may have removed it', async () => {
    const run = start();
    const token = await tokenFor(run);
    assert.equal((await revoke(run.run)).body.left, true);
    world.aws.knobs.loseAnswerNext = { UpdateAssumeRolePolicy: 1 };
    world.aws.knobs.failRate = {};
    const writes = world.aws.writes.length;
    const allowing = replica.call('POST', '/allow_run', { as: 'admin', body: { run_id: run.run } });
    await until(() => world.aws.writes.length > writes, 20_000);
    world.aws.knobs.failRate = {
      GetRole: { code: 'ServiceUnavailable', rate: 1 },
      UpdateAssumeRolePolicy: { code: 'ServiceUnavailable', rate: 1 },
    };
    await allowing;
    assert.ok(await assumes(token, proxy));
    const again = await revoke(run.run);
    assert.equal(await assumes(token, proxy), true);
    assert.equal(again.body.left, false, again.text);
  }).timeout(60_000);

  it('does not evict a member in a full trust policy, and gives way to the Deny of a revoked run', async () => {
    await map('team', byToken(), { iam_role_arn: target, proxy_iam_role_arn: proxy });
    world.domino.addUser({ name: 'carol', orgs: ['team'] });
    const inside = start('carol');
    const asked = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'carol', body: { run_id: inside.run } });
    assert.match(asked.text, /\[profile src_list\]/);
    assert.ok(await world.canAssume(inside.account, proxy));
    const leaving = Array.from({ length: 60 }, () => start());
    const hasToken = async (one: (typeof leaving)[number]) => (await ask(one)).body.tokens?.length === 1;
    for (const one of leaving) await until(() => hasToken(one), 20_000);
    await unmap('acme');
    await until(() => document().includes('IrsaRevokedRoleTokens'), 20_000);
    await compared();
    assert.ok(await world.canAssume(inside.account, proxy), 'the member was evicted');
    const { body } = await compared();
    assert.equal(body.proxy_roles[0]?.role_tokens.problem?.code, 'trust_policy_full');
    // A revocation by an administrator has priority over other denials.
    const shutOut = start('carol');
    const token = await tokenFor(shutOut);
    assert.equal((await revoke(shutOut.run)).body.left, true);
    assert.equal(await assumes(token, proxy), false);
  }).timeout(60_000);
});
