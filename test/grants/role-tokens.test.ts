/** Proves that role tokens reach only the pods of users who may have the role now, against all stand-ins. */
import assert from 'node:assert/strict';
import type { V1ConfigMap } from '@kubernetes/client-node';
import { decodeJwt } from 'jose';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { revokedConfigMap } from '../../src/runs/revocations.ts';
import { until } from '../support/clock.ts';
import { assumes } from '../support/roles.ts';
import { clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

const audience = (name: string) => `irsa/${name}`;
type Given = { profile: string; iam_role_arn: string; token: string; expires_at: string };

describe('role tokens', () => {
  let world: World;
  let replica: Replica;
  let role: { target: string; proxies: string[] };
  let next = 0;

  before(async () => {
    world = await startWorld();
    replica = await world.startReplica();
    for (const name of ['alice', 'bob']) world.domino.addUser({ name, orgs: ['acme'] });
    world.domino.addUser({ name: 'mallory', orgs: ['other'] });
    role = world.addRolePair('list');
    listAudiences('list');
    await map('acme', entry());
  });
  after(() => world.stop());

  function listAudiences(...names: string[]) {
    const clientIds = ['sts.amazonaws.com', ...names.map(audience)];
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds });
  }

  const plain = (of = role) => ({ iam_role_arn: of.target, proxy_iam_role_arn: of.proxies[0] });
  const entry = (carrier = 'token', of = role) => ({ ...plain(of), carrier });

  async function map(org: string, ...data: object[]) {
    const body = { domino_org: org, role_data: data };
    const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    assert.equal(answer.status, 200, answer.text);
    return answer.body as { role_data: object[] };
  }

  function start(user = 'alice', options = {}) {
    next += 1;
    const run = runId(next);
    return { run, ...world.startRun(run, user, options) };
  }

  const config = (run: string, as = 'alice', more: object = { role_tokens: true }) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run, ...more } });
  const ask = (run: string, pod: string, as = 'alice', more: object = {}) =>
    replica.call('POST', '/role_tokens', { as, body: { run_id: run, pod, ...more } });

  async function tokenFor({ run, pod }: { run: string; pod: string }, as = 'alice'): Promise<string> {
    const answer = await ask(run, pod, as);
    assert.equal(answer.status, 200, answer.text);
    const [token] = answer.body.tokens as Given[];
    assert.ok(token, answer.text);
    return token.token;
  }

  const works = (token: string, proxy = role.proxies[0] ?? '') => assumes(token, proxy);
  const errorCode = (answer: { status: number; body: { code?: string } }) => `${answer.status} ${answer.body.code}`;

  it('give a run its role without a write to IAM, and a client of release 1.8 a comment line', async () => {
    const warm = start();
    await config(warm.run);
    await tokenFor(warm);
    const writes = world.aws.writes.length;
    const run = start();
    const text = (await config(run.run)).text;
    assert.match(text, /\[profile src_list\]\nweb_identity_token_file = \/var\/run\/\.aws\/tokens\/list\n/);
    const answer = await ask(run.run, run.pod);
    assert.equal(answer.headers['cache-control'], 'no-store');
    const [given] = answer.body.tokens as [Given];
    assert.deepEqual([given.profile, given.iam_role_arn], ['list', role.target]);
    const claims = decodeJwt(given.token) as { aud: string[]; sub: string; exp: number; iat: number };
    assert.deepEqual(claims.aud, ['irsa/list']);
    assert.equal(claims.sub, `system:serviceaccount:domino-compute:${run.account}`);
    assert.equal(claims.exp - claims.iat, 3600);
    assert.ok(await works(given.token));
    assert.equal(world.aws.writes.length, writes);
    assert.match((await config(start().run, 'alice', {})).text, /^# list: refused, needs_role_tokens: /m);
    const access = async (id: string) =>
      (await replica.call('GET', `/my_access?run_id=${id}`, { as: 'alice' })).body.access as Record<string, unknown>[];
    await until(async () => (await access(run.run))[0]?.code === 'granted', 8_000);
    assert.equal((await access(run.run))[0]?.carrier, 'token');
    assert.equal((await access(start().run))[0]?.code, 'not_requested');
    const status = await replica.call('GET', '/trust_status', { as: 'admin' });
    const [known] = status.body.proxy_roles as { role_tokens?: object }[];
    assert.deepEqual(known?.role_tokens, { granted: true, denied: [] });
    const tried = await replica.call('POST', '/update_role_mapping?dry_run=true', {
      as: 'admin',
      body: { domino_org: 'acme', ...entry() },
    });
    assert.equal((tried.body.proxy_roles as { carrier?: string }[])[0]?.carrier, 'token');
  });

  it('appear in one audit line each, with the id and never the token', async () => {
    const run = start();
    const token = await tokenFor(run);
    const lines = replica.log.filter((line) => line.audit === 'role_token' && line.run === run.run);
    const { jti } = decodeJwt(token);
    assert.ok(jti);
    assert.deepEqual(
      lines.map(({ decision, pod, account, role: target, proxy, jti: id }) => [
        decision,
        pod,
        account,
        target,
        proxy,
        id,
      ]),
      [['given', run.pod, run.account, role.target, role.proxies[0], jti]],
    );
    const signature = token.split('.')[2] ?? '';
    const told =
      JSON.stringify(replica.log) +
      (await replica.metrics.registry.metrics()) +
      JSON.stringify(world.kubernetes.list('configmaps'));
    assert.ok(!told.includes(signature) && !told.includes(token.split('.')[1] ?? ''));
    assert.match(await replica.metrics.registry.metrics(), /irsa_role_tokens_total\{outcome="given"\} \d/);
  });

  it('invariant 11: foreign runs, foreign pods and ended pods get the answer of an unknown run', async () => {
    const [own, other] = [start(), start('bob')];
    const none = await ask('f'.repeat(24), own.pod);
    for (const answer of [
      await ask(other.run, other.pod),
      await ask(own.run, other.pod),
      await ask(other.run, own.pod),
      await ask(own.run, own.pod, 'mallory'),
      await ask(own.run, `${own.pod}x`),
    ]) {
      assert.equal(errorCode(answer), '404 run_not_found');
      assert.equal(answer.body.detail, none.body.detail);
    }
    assert.ok(await tokenFor(own));
    world.endRun(own.run);
    await until(async () => (await ask(own.run, own.pod)).status === 404, 8_000);
  });

  it('invariant 11: a profile not mapped by token is refused, and a user without roles sees no profile', async () => {
    const second = world.addRolePair('by-entry');
    await map('acme', entry(), entry('entry', second));
    const run = start();
    const answer = await ask(run.run, run.pod, 'alice', { profiles: ['list', 'by-entry', 'nothing', '../list'] });
    assert.deepEqual(
      (answer.body.tokens as Given[]).map(({ profile }) => profile),
      ['list'],
    );
    assert.deepEqual(
      (answer.body.refused as { profile: string; code: string }[]).map(({ profile, code }) => [profile, code]),
      [
        ['by-entry', 'not_mapped'],
        ['nothing', 'not_mapped'],
        ['../list', 'not_mapped'],
      ],
    );
    const stranger = start('mallory');
    assert.deepEqual((await ask(stranger.run, stranger.pod, 'mallory')).body, { tokens: [], refused: [] });
    await map('acme', entry());
  });

  it('invariant 11: a service account that two users’ pods share gets no token', async () => {
    const run = start('alice', { account: 'shared' });
    start('bob', { account: 'shared' });
    await until(async () => errorCode(await ask(run.run, run.pod)) === '409 shared_service_account', 8_000);
  });

  it('invariant 11: a pod that the API server shows with another service account or uid gets no token', async () => {
    const run = start();
    await tokenFor(run);
    const pod = world.kubernetes.get<{ metadata: { uid: string }; spec: object }>('pods', 'domino-compute', run.pod);
    assert.ok(pod);
    world.kubernetes.knobs.freezeWatches = true;
    try {
      world.kubernetes.put('pods', { ...pod, spec: { ...pod.spec, serviceAccountName: 'run-of-another' } });
      assert.equal(errorCode(await ask(run.run, run.pod)), '404 run_not_found');
      world.kubernetes.put('pods', { ...pod, metadata: { ...pod.metadata, uid: 'a-later-pod' } });
      assert.equal(errorCode(await ask(run.run, run.pod)), '404 run_not_found');
    } finally {
      world.kubernetes.knobs.freezeWatches = false;
    }
  });

  it('invariant 11: two roles of one name are refused, since one token would be valid for both', async () => {
    const arn = 'arn:aws:iam::333333333333:role/list';
    const body = {
      domino_org: 'other',
      role_data: [
        { iam_role_arn: arn, proxy_iam_role_arn: arn, carrier: 'token', update_iam_role_trust_policy: false },
      ],
    };
    const answer = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
    assert.equal(errorCode(answer), '400 invalid_request');
    // As an earlier release or an administrator may have stored it.
    const stored = world.kubernetes.get<{ data: Record<string, string> }>(
      'configmaps',
      'domino-field',
      'domino-org-iamrole-mapping',
    );
    world.kubernetes.put('configmaps', { ...stored, data: { ...stored?.data, other: JSON.stringify(body.role_data) } });
    const run = start('mallory');
    await until(
      async () => (await config(run.run, 'mallory')).text.includes('# list: refused, invalid_mapping'),
      8_000,
    );
    assert.deepEqual((await ask(run.run, run.pod, 'mallory')).body.tokens, []);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'other' } });
  });

  it('of a revoked run are refused and its existing ones denied, until the run is allowed again', async () => {
    const run = start();
    const token = await tokenFor(run);
    assert.ok(await works(token));
    await until(async () => {
      const { body } = await replica.call('POST', '/revoke_run?dry_run=true', {
        as: 'admin',
        body: { run_id: run.run },
      });
      return body.loses[0]?.proxy_iam_role_arn === role.proxies[0] && body.loses.length === 1;
    }, 8_000);
    const revoked = await replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run.run } });
    assert.deepEqual([revoked.body.left, revoked.body.proxy_iam_role_arns], [true, role.proxies], revoked.text);
    assert.equal(await works(token), false);
    assert.equal(errorCode(await ask(run.run, run.pod)), '403 run_revoked');
    await replica.call('POST', '/allow_run', { as: 'admin', body: { run_id: run.run } });
    await until(async () => (await ask(run.run, run.pod)).status === 200 && (await works(token)), 8_000);
  });

  it('invariant 11: a replica that lost its watches decides by what the API server has', async () => {
    const [revoked, unmapped] = [start(), start()];
    for (const one of [revoked, unmapped]) await tokenFor(one);
    const lost = () => replica.log.filter(({ msg }) => /watch lost/.test(String(msg))).length;
    const before = lost();
    world.kubernetes.knobs.refuseListsOf = 'configmaps';
    world.kubernetes.cutWatches();
    await until(() => lost() >= before + 8);
    const record = { by: 'a', by_id: 'a', at: new Date(world.clock.now()).toISOString() };
    const metadata = { name: revokedConfigMap, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { metadata, data: { [revoked.run]: JSON.stringify(record) } });
    assert.equal(errorCode(await ask(revoked.run, revoked.pod)), '403 run_revoked');
    await tokenFor(unmapped);
    const mappings = world.kubernetes.get<V1ConfigMap>('configmaps', 'domino-field', mappingConfigMap);
    world.kubernetes.put('configmaps', { ...mappings, data: {} });
    assert.deepEqual((await ask(unmapped.run, unmapped.pod)).body.tokens, []);
    world.kubernetes.knobs.refuseListsOf = '';
    world.kubernetes.put('configmaps', { metadata, data: {} });
    await map('acme', entry());
    await until(async () => (await ask(revoked.run, revoked.pod)).status === 200, 8_000);
  });

  it('are denied for users who left the organization, or whose organization’s mapping was deleted', async () => {
    const [stays, leaves] = [start('bob'), start()];
    const [kept, lost] = [await tokenFor(stays, 'bob'), await tokenFor(leaves)];
    world.domino.addUser({ name: 'alice', orgs: ['former'] });
    world.clock.skip(6_000);
    assert.deepEqual((await ask(leaves.run, leaves.pod)).body.tokens, []);
    await until(async () => !(await works(lost)), 8_000);
    assert.ok(await works(kept));
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    world.clock.skip(6_000);
    await until(async () => (await ask(leaves.run, leaves.pod)).body.tokens.length === 1, 8_000);
    await until(() => works(lost), 8_000);
    await map('elsewhere', entry());
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    await until(async () => !(await works(kept)) && !(await works(lost)), 8_000);
    await map('acme', entry());
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'elsewhere' } });
    await until(() => works(kept), 8_000);
  });

  it('are refused for a missing audience, with the command that adds it, and given once it is added', async () => {
    const unlisted = world.addRolePair('unlisted');
    await map('acme', entry(), entry('token', unlisted));
    const run = start();
    const command =
      /add-client-id-to-open-id-connect-provider --open-id-connect-provider-arn \S+ --client-id irsa\/unlisted/;
    await until(async () => (await config(run.run)).text.includes('# unlisted: refused, audience_missing'), 8_000);
    assert.match((await config(run.run)).text, command);
    const problems = async () => (await replica.metrics.registry.metrics()).match(/^irsa_role_tokens_problem\{.*/gm);
    const told = `irsa_role_tokens_problem{role="${unlisted.proxies[0]}",code="audience_missing"} 1`;
    await until(async () => (await problems())?.join() === told, 8_000);
    const answer = await ask(run.run, run.pod);
    assert.deepEqual(
      (answer.body.refused as { code: string }[]).map(({ code }) => code),
      ['audience_missing'],
    );
    listAudiences('list', 'unlisted');
    world.clock.skip(20_000);
    await until(async () => (await config(run.run)).text.includes('[profile unlisted]'), 8_000);
    await until(async () => (await problems()) === null, 8_000);
    await map('acme', entry());
  });

  it('let a role move from entries to tokens and back without any run losing it', async () => {
    const moving = world.addRolePair('moving');
    listAudiences('list', 'unlisted', 'moving');
    const proxy = moving.proxies[0] ?? '';
    await map('acme', plain(moving));
    const old = start();
    assert.match((await config(old.run, 'alice', {})).text, /\[profile moving\]/);
    assert.ok(await world.canAssume(old.account, proxy));
    await map('acme', entry('token', moving));
    // A client of release 1.8 keeps its entry; a new run with such a client gets the comment line.
    assert.match((await config(old.run, 'alice', {})).text, /serviceaccount\/token\nrole_arn = \S+moving/);
    assert.match((await config(start().run, 'alice', {})).text, /needs_role_tokens/);
    const fresh = start();
    assert.match((await config(fresh.run)).text, /tokens\/moving/);
    const token = await tokenFor(fresh);
    assert.ok((await works(token, proxy)) && (await world.canAssume(old.account, proxy)));
    assert.match((await config(old.run)).text, /tokens\/moving/);
    assert.ok((await works(await tokenFor(old), proxy)) && (await world.canAssume(old.account, proxy)));
    await map('acme', entry('entry', moving));
    assert.match((await config(fresh.run)).text, /serviceaccount\/token/);
    assert.ok((await works(token, proxy)) && (await world.canAssume(fresh.account, proxy)));
    world.endRun(old.run);
    world.endRun(fresh.run);
    // The statement for tokens is removed when the last run that used it has ended.
    await until(
      async () => !JSON.stringify(world.aws.role(clusterAccount, 'moving').document).includes('irsa/moving'),
      8_000,
    );
    await map('acme', entry());
  });

  it('give a direct role one profile without a chain', async () => {
    const direct = { target: world.addRolePair('direct').proxies[0] ?? '', proxies: [] as string[] };
    direct.proxies.push(direct.target);
    listAudiences('list', 'direct');
    await map('acme', entry('token', direct));
    const run = start();
    const { text } = await config(run.run);
    assert.match(
      text,
      /\[profile direct\]\nweb_identity_token_file = \/var\/run\/\.aws\/tokens\/direct\nrole_arn = \S+role\/direct\n/,
    );
    assert.doesNotMatch(text, /source_profile/);
    assert.ok(await works(await tokenFor(run), direct.target));
    await map('acme', entry());
  });

  it('work again after another tool alters the statement, which is removed with the mapping', async () => {
    const run = start();
    await config(run.run);
    const token = await tokenFor(run);
    const { document } = world.aws.role(clusterAccount, 'list');
    world.aws.setTrust(clusterAccount, 'list', JSON.parse(JSON.stringify(document).replaceAll('irsa/list', 'irsa/*')));
    await replica.call('GET', `/trust_status?proxy_iam_role_arn=${role.proxies[0]}`, { as: 'admin' });
    await until(() => works(token), 8_000);
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'acme' } });
    await until(async () => !(await works(token)), 8_000);
    assert.doesNotMatch(JSON.stringify(world.aws.role(clusterAccount, 'list').document), /IrsaRoleTokens/);
    await map('acme', entry());
  });

  it('that a policy of the cluster refuses are named in the answer, without the API server’s message', async () => {
    const run = start();
    await config(run.run);
    await tokenFor(run);
    const count = async () =>
      Number(
        /irsa_role_tokens_total\{outcome="token_refused"\} (\d+)/.exec(await replica.metrics.registry.metrics())?.[1] ??
          0,
      );
    const before = await count();
    try {
      for (const [at, refusal] of ['403 policy "x" denied it', '422 policy "x" denied it'].entries()) {
        world.kubernetes.knobs.refuseTokens = refusal;
        const answer = await ask(run.run, run.pod);
        assert.deepEqual([answer.status, answer.body.tokens], [200, []]);
        const [refused] = answer.body.refused as { profile: string; code: string }[];
        assert.deepEqual([refused?.profile, refused?.code], ['list', 'token_refused']);
        assert.ok(!answer.text.includes('policy \\"x'));
        assert.equal(await count(), before + at + 1);
      }
      assert.ok(
        replica.log.some(({ msg, err }) => /refuses to make/.test(String(msg)) && JSON.stringify(err).includes('x')),
      );
      world.kubernetes.knobs.refuseTokens = '500 not now';
      assert.equal(errorCode(await ask(run.run, run.pod)), '503 kubernetes_unavailable');
    } finally {
      world.kubernetes.knobs.refuseTokens = '';
    }
    await tokenFor(run);
  });

  it('are given where IAM refuses to show the audiences, and the log has one line about it', async () => {
    const unseen = world.addRolePair('unseen');
    listAudiences('list', 'unseen');
    const notKnown = () =>
      replica.log.filter(({ msg }) => /audiences of the OIDC provider are not known/.test(String(msg)));
    world.aws.knobs.failRate = { GetOpenIDConnectProvider: { code: 'AccessDenied', rate: 1 } };
    try {
      await map('acme', entry('token', unseen));
      const run = start();
      await until(async () => (await config(run.run)).text.includes('[profile unseen]'), 8_000);
      assert.ok(await works(await tokenFor(run), unseen.proxies[0]));
      world.clock.skip(20_000);
      await replica.call('GET', `/trust_status?proxy_iam_role_arn=${unseen.proxies[0]}`, { as: 'admin' });
      assert.equal(notKnown().length, 1);
    } finally {
      world.aws.knobs.failRate = {};
    }
    await map('acme', entry());
  });

  it('are refused while the provider does not list the audience, and given once it does again', async () => {
    const run = start();
    await config(run.run);
    const token = await tokenFor(run);
    assert.ok(await works(token));
    const compare = () => replica.call('GET', `/trust_status?proxy_iam_role_arn=${role.proxies[0]}`, { as: 'admin' });
    const looks = () => world.aws.calls.GetOpenIDConnectProvider ?? 0;
    // The audience is read as listed, whatever earlier tests left behind.
    const before = looks();
    world.clock.skip(61_000);
    await until(async () => {
      await compare();
      return looks() > before;
    }, 8_000);
    listAudiences();
    await assert.rejects(works(token), /Incorrect token audience/);
    // The leader trusts a listed audience for a minute.
    world.clock.skip(61_000);
    await until(async () => {
      await compare();
      return (await ask(run.run, run.pod)).body.refused?.[0]?.code === 'audience_missing';
    }, 8_000);
    assert.deepEqual((await ask(run.run, run.pod)).body.tokens, []);
    assert.match((await config(run.run)).text, /^# list: refused, audience_missing: .*--client-id irsa\/list/m);
    // The role stays as it was: its statement requires the audience, which no token can have now.
    assert.match(JSON.stringify(world.aws.role(clusterAccount, 'list').document), /"irsa\/list"/);
    listAudiences('list');
    world.clock.skip(20_000);
    await until(async () => (await ask(run.run, run.pod)).body.tokens?.length === 1, 8_000);
    assert.ok(await works(await tokenFor(run)));
  });
});
