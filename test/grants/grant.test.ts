import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CoreV1Api, KubeConfig, type V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { mappingConfigMap } from '../../src/mappings/role-mappings.ts';
import { statusName, trustStatusForm } from '../../src/proxy-roles/status.ts';
import { parseRoleRequest } from '../../src/runs/role-request.ts';
import { editTrustPolicy } from '../../src/trust-policy/document.ts';
import { hasAws, hasBoto3, runAws, runBoto3 } from '../stack/clients.ts';
import { until } from '../support/clock.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';

describe('POST /map_iam_roles_to_pod_sa', () => {
  let world: World;
  let replica: Replica;
  let next = 1;

  before(async () => {
    world = await startWorld();
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
    world.domino.addUser({ name: 'bob', orgs: ['acme'], apiKey: 'bobs-key' });
    world.domino.addUser({ name: 'carol', orgs: [] });
    replica = await world.startReplica();
    await world.map(
      replica,
      'acme',
      world.addRolePair('acme-list-bucket-role'),
      world.addRolePair('acme-read-bucket-role'),
    );
  });
  after(() => world.stop());

  const newRun = () => runId(next++);
  const ask = (as: string, run_id: unknown, more = {}) =>
    replica.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id, ...more } });
  const proxyArn = `arn:aws:iam::${clusterAccount}:role/acme-list-bucket-role`;

  it('invariant 6: after a 200, every proxy role in the config file can be assumed', async () => {
    const run = newRun();
    const { account } = world.startRun(run, 'alice');
    assert.equal(await world.canAssume(account, proxyArn), false);
    const answer = await ask('alice', run, { irsa_workload_type: 'edge-workload' });
    assert.equal(answer.status, 200);
    const proxies = [...answer.text.matchAll(/^role_arn = (arn:aws:iam::111111111111:.*)$/gm)].map(
      ([, arn]) => arn as string,
    );
    assert.equal(proxies.length, 2);
    for (const arn of proxies) assert.equal(await world.canAssume(account, arn), true);
    assert.deepEqual(world.subjects('acme-list-bucket-role').includes(`*:domino-compute:${account}`), true);
  });

  it('gives the same config file again, also for an id with run- before it, without a call to IAM', async () => {
    const run = newRun();
    world.startRun(run, 'alice');
    const body = (text: string) => text.replace(/^#.*\n/, '');
    const first = await ask('alice', run);
    const reads = world.aws.calls.GetRole;
    const again = await ask('alice', `run-${run}`);
    assert.equal(body(again.text), body(first.text));
    assert.equal(world.aws.calls.GetRole, reads, 'a granted run costs no read of IAM');
  });

  it('answers granted runs while the API server is down', async () => {
    const run = newRun();
    world.startRun(run, 'alice');
    assert.equal((await ask('alice', run)).status, 200);
    world.kubernetes.knobs.down = true;
    assert.equal((await ask('alice', run)).status, 200);
    world.kubernetes.knobs.down = false;
  });

  it('invariant 6: reads the status from the API server before it answers, if the watch is lost', async () => {
    const run = newRun();
    const { account } = world.startRun(run, 'alice');
    assert.equal((await ask('alice', run)).status, 200);
    const name = statusName(proxyArn);
    const stored = () => world.kubernetes.get<{ data: Record<string, string> }>('configmaps', 'domino-field', name);
    const members = () => trustStatusForm.parse(stored()?.data ?? {})?.members ?? {};
    assert.ok(members()[account]);
    const lost = () =>
      replica.log.filter(({ msg, path }) => /watch lost/.test(String(msg)) && /configmaps/.test(String(path))).length;
    // The replica watches four lists of ConfigMaps, and loses each.
    const before = lost();
    world.kubernetes.knobs.refuseListsOf = 'configmaps';
    world.kubernetes.cutWatches();
    await until(() => lost() >= before + 8);
    // As if the leader had moved the run to another proxy role meanwhile.
    const status = trustStatusForm.parse(stored()?.data ?? {});
    assert.ok(status);
    world.kubernetes.put('configmaps', { ...stored(), data: trustStatusForm.data({ ...status, members: {} }) });
    const gets = () => world.kubernetes.calls.get('get configmaps') ?? 0;
    const asked = gets();
    const answer = ask('alice', run);
    await until(() => gets() > asked);
    // A change of the service account makes it read again, since the watch of the status is still lost.
    const looked = gets();
    const annotated = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const metadata = { ...annotated?.metadata, labels: { touched: 'true' } };
    world.kubernetes.put('serviceaccounts', { ...annotated, metadata });
    await until(() => gets() > looked);
    assert.deepEqual(members(), {});
    world.kubernetes.knobs.refuseListsOf = '';
    assert.equal((await answer).status, 200);
    assert.ok(members()[account], 'answered only after the leader has published the member again');
  });

  it('invariant 6: answers a larger request only after the leader has decided that request', async () => {
    const [first, second] = [world.addRolePair('helen-1'), world.addRolePair('helen-2', [])];
    world.domino.addUser({ name: 'helen', orgs: ['helen-org'] });
    await world.map(replica, 'helen-org', first);
    const run = newRun();
    const { account } = world.startRun(run, 'helen');
    assert.equal((await ask('helen', run)).status, 200);
    // Another target role behind the same proxy role, where the run is a member already.
    await world.map(replica, 'helen-org', first, { target: second.target, proxies: first.proxies });
    world.aws.knobs.latencyMs = { GetRole: 200 };
    assert.match((await ask('helen', run)).text, /\[profile helen-2\]/);
    world.aws.knobs.latencyMs = { GetRole: 0 };
    const stored = world.kubernetes.get<{ data: Record<string, string> }>(
      'configmaps',
      'domino-field',
      statusName(first.proxies[0] as string),
    );
    const asked = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const request = parseRoleRequest(asked?.metadata?.annotations?.[wantedAnnotation]);
    assert.equal(trustStatusForm.parse(stored?.data ?? {})?.members[account]?.want, request?.id);
    assert.equal(request?.roles.length, 2);
  });

  it('accepts an API key in place of a token', async () => {
    const run = newRun();
    world.startRun(run, 'bob');
    const options = { headers: { 'X-Domino-Api-Key': 'bobs-key' }, body: { run_id: run } };
    const answer = await replica.call('POST', '/map_iam_roles_to_pod_sa', options);
    assert.equal(answer.status, 200);
    assert.match(answer.text, /role_session_name = bob-/);
  });

  it('invariant 7: a Pending or terminating pod counts as live, one that succeeded or failed does not', async () => {
    const pending = newRun();
    world.startRun(pending, 'alice', { phase: 'Pending' });
    assert.equal((await ask('alice', pending)).status, 200);
    for (const phase of ['Succeeded', 'Failed'] as const) {
      const ended = newRun();
      world.startRun(ended, 'alice', { phase });
      assert.equal((await ask('alice', ended)).status, 404, phase);
    }
    const terminating = newRun();
    const { account, pod } = world.startRun(terminating, 'alice');
    const config = new KubeConfig();
    config.loadFromString(world.kubernetes.kubeconfig());
    world.kubernetes.knobs.gracefulPods = true;
    const body = { name: pod, namespace: 'domino-compute', gracePeriodSeconds: 60 };
    const { metadata } = await config.makeApiClient(CoreV1Api).deleteNamespacedPod(body);
    world.kubernetes.knobs.gracefulPods = false;
    assert.ok(metadata?.deletionTimestamp);
    assert.equal((await ask('alice', terminating)).status, 200);
    assert.ok(world.subjects('acme-list-bucket-role').includes(`*:domino-compute:${account}`));
  });

  it('invariant 5: answers another user’s run exactly like a run that does not exist', async () => {
    const run = newRun();
    world.startRun(run, 'alice');
    const other = await ask('bob', run);
    const missing = await ask('bob', newRun());
    assert.equal(other.status, 404);
    assert.equal(other.body.code, 'run_not_found');
    assert.deepEqual({ ...other.body, request_id: '' }, { ...missing.body, request_id: '' });
    // An administrator gets the same answer.
    assert.equal((await ask('admin', run)).status, 404);
  });

  it('invariant 5: refuses a service account that two users share', async () => {
    const [mine, theirs] = [newRun(), newRun()];
    world.startRun(mine, 'alice', { account: 'shared-sa' });
    world.startRun(theirs, 'bob', { account: 'shared-sa' });
    const answer = await ask('alice', mine);
    assert.equal(answer.status, 409);
    assert.equal(answer.body.code, 'shared_service_account');
    world.endRun(theirs);
    await until(async () => (await ask('alice', mine)).status === 200);
  });

  it('refuses more roles than fit on a service account, without a Retry-After', async () => {
    const data = Object.fromEntries(
      Array.from({ length: 20 }, (_, org) => {
        const list = Array.from({ length: 100 }, (__, n) => ({
          iam_role_arn: `arn:aws:iam::222222222222:role/mapped-${org}-${n}`,
          proxy_iam_role_arn: proxyArn,
        }));
        return [`many-${org}`, JSON.stringify(list)];
      }),
    );
    const before = world.kubernetes.get<{ data: Record<string, string> }>(
      'configmaps',
      'domino-field',
      mappingConfigMap,
    );
    const metadata = { name: mappingConfigMap, namespace: 'domino-field' };
    world.kubernetes.put('configmaps', { metadata, data: { ...before?.data, ...data } });
    world.domino.addUser({ name: 'collector', orgs: Object.keys(data) });
    const run = newRun();
    world.startRun(run, 'collector');
    try {
      await until(async () => {
        const { body } = await replica.call('GET', '/my_role_mappings', { as: 'collector' });
        return body.my_role_mappings.length === 2000;
      });
      const answer = await ask('collector', run);
      assert.deepEqual([answer.status, answer.body.code], [409, 'too_many_roles']);
      assert.match(answer.body.detail, /2000 roles/);
      assert.equal(answer.headers['retry-after'], undefined);
    } finally {
      world.kubernetes.put('configmaps', { metadata, data: before?.data ?? {} });
    }
  });

  it('invariant 5: a service account that a second user begins to share loses the role', async () => {
    const mine = newRun();
    world.startRun(mine, 'alice', { account: 'later-shared-sa' });
    assert.equal((await ask('alice', mine)).status, 200);
    assert.equal(await world.canAssume('later-shared-sa', proxyArn), true);
    world.startRun(newRun(), 'bob', { account: 'later-shared-sa' });
    await until(() => !world.subjects('acme-list-bucket-role').includes('*:domino-compute:later-shared-sa'));
    assert.equal(await world.canAssume('later-shared-sa', proxyArn), false);
  });

  it('grants all service accounts of a run, such as those of its Ray cluster, through one proxy role', async () => {
    const run = newRun();
    world.startRun(run, 'alice');
    world.startRun(run, 'alice', { account: `ray-${run}-ray` });
    assert.equal((await ask('alice', run)).status, 200);
    assert.equal(await world.canAssume(`run-${run}`, proxyArn), true);
    assert.equal(await world.canAssume(`ray-${run}-ray`, proxyArn), true);
  });

  it('finds a new pod that the watch does not show yet', async () => {
    world.kubernetes.knobs.freezeWatches = true;
    const run = newRun();
    world.startRun(run, 'alice');
    const answer = ask('alice', run);
    await until(() =>
      world.kubernetes
        .list('serviceaccounts')
        .some(({ metadata }) => metadata?.name === `run-${run}` && metadata.annotations !== undefined),
    );
    world.kubernetes.knobs.freezeWatches = false;
    assert.equal((await answer).status, 200);
  });

  it('gives a user without roles a config file with one comment line', async () => {
    const run = newRun();
    world.startRun(run, 'carol');
    const answer = await ask('carol', run);
    assert.equal(answer.status, 200);
    assert.match(answer.text, /^# irsa-svc: no roles of carol .*\n$/);
  });

  it('names a refused role in a comment line, and gives the others', async () => {
    const good = world.addRolePair('acme-good-role');
    const gone = {
      target: `arn:aws:iam::${assetAccount}:role/acme-gone-role`,
      proxies: [`arn:aws:iam::${clusterAccount}:role/acme-gone-proxy`],
    };
    world.domino.addUser({ name: 'dave', orgs: ['dave-org'] });
    await world.map(replica, 'dave-org', good, gone);
    const run = newRun();
    world.startRun(run, 'dave');
    const answer = await ask('dave', run);
    assert.equal(answer.status, 200);
    assert.match(answer.text, /\[profile acme-good-role\]/);
    const reason = 'no IAM role acme-gone-proxy in account 111111111111';
    assert.match(answer.text, new RegExp(`^# acme-gone-role: refused, role_not_found: ${reason}$`, 'm'));
  });

  it('gives a refused role at a later request once it exists', async () => {
    const run = newRun();
    world.startRun(run, 'dave');
    assert.match((await ask('dave', run)).text, /^# acme-gone-role: refused/m);
    world.addRolePair('acme-gone-role', ['acme-gone-proxy']);
    world.clock.skip(20_000);
    await until(async () => (await ask('dave', run)).text.includes('[profile acme-gone-role]'));
  });

  it('gives the profile of an unmanaged proxy role, and does not write the role', async () => {
    const kept = world.addRolePair('kept-by-terraform');
    world.domino.addUser({ name: 'erin', orgs: ['erin-org'] });
    const entry = {
      iam_role_arn: kept.target,
      proxy_iam_role_arn: kept.proxies[0],
      update_iam_role_trust_policy: 'false',
    };
    await replica.call('POST', '/update_multirole_mapping', {
      as: 'admin',
      body: { domino_org: 'erin-org', role_data: [entry] },
    });
    const run = newRun();
    world.startRun(run, 'erin');
    const answer = await ask('erin', run);
    assert.match(answer.text, /\[profile kept-by-terraform\]/);
    assert.equal(world.aws.role(clusterAccount, 'kept-by-terraform').history.length, 1);
  });

  it('names the one role that an organization proposes as default profile, and refuses two', async () => {
    const [one, two] = [world.addRolePair('proposed-one'), world.addRolePair('proposed-two')];
    world.domino.addUser({ name: 'gina', orgs: ['gina-org'] });
    const entry = ({ target, proxies }: typeof one) => ({ iam_role_arn: target, proxy_iam_role_arn: proxies[0] });
    const map = (...role_data: object[]) =>
      replica.call('POST', '/update_multirole_mapping', { as: 'admin', body: { domino_org: 'gina-org', role_data } });
    const both = await map({ ...entry(one), default_profile: true }, { ...entry(two), default_profile: true });
    assert.equal(both.status, 400);
    const { errors } = both.body as { errors: { path: string; message: string }[] };
    assert.deepEqual(
      errors.map(({ path }) => path),
      ['/body/role_data/1/default_profile'],
    );
    assert.equal((await map({ ...entry(one), default_profile: 'yes' })).status, 400);
    const { body } = await map({ ...entry(one), default_profile: false }, { ...entry(two), default_profile: true });
    const stored = (body as { role_data: { default_profile?: boolean }[] }).role_data;
    assert.deepEqual(
      stored.map(({ default_profile }) => default_profile),
      [false, true],
    );
    const run = newRun();
    world.startRun(run, 'gina');
    await until(async () => /^# default profile: proposed-two$/m.test((await ask('gina', run)).text));
    assert.doesNotMatch((await ask('gina', run)).text, /default profile: proposed-one/);
  });

  it('fills a pool in order, and answers 503 trust_policy_full until it has capacity', async () => {
    const pool = world.addRolePair('tiny', ['tiny-1', 'tiny-2']);
    for (const name of ['tiny-1', 'tiny-2']) world.aws.setTrust(clusterAccount, name, documentWithCapacityForOne());
    world.domino.addUser({ name: 'frank', orgs: ['frank-org'] });
    await world.map(replica, 'frank-org', pool);
    const runs = [newRun(), newRun(), newRun()];
    for (const run of runs) world.startRun(run, 'frank');
    const proxyOf = (text: string) => /role_arn = arn:aws:iam::111111111111:role\/(\S+)/.exec(text)?.[1];
    assert.equal(proxyOf((await ask('frank', runs[0])).text), 'tiny-1');
    assert.equal(proxyOf((await ask('frank', runs[1])).text), 'tiny-2');
    const full = await ask('frank', runs[2]);
    assert.equal(full.status, 503);
    assert.equal(full.body.code, 'trust_policy_full');
    assert.match(full.body.detail, /tiny-1, tiny-2/);
    assert.ok(Number(full.headers['retry-after']) > 0);
    world.endRun(runs[0] as string);
    await until(async () => proxyOf((await ask('frank', runs[2])).text) === 'tiny-1');
    assert.ok(world.subjects('tiny-1').includes(`*:domino-compute:run-${runs[2]}`));
    // The other run was not moved.
    assert.equal(proxyOf((await ask('frank', runs[1])).text), 'tiny-2');
  });

  it('removes the subject of a run that ended, which then cannot assume the role', async () => {
    const run = newRun();
    const { account } = world.startRun(run, 'alice');
    await ask('alice', run);
    world.endRun(run);
    await until(() => !world.subjects('acme-list-bucket-role').includes(`*:domino-compute:${account}`));
    assert.equal(await world.canAssume(account, proxyArn), false);
    assert.equal((await ask('alice', run)).status, 404);
  });

  it('removes the subject of a run when the mapping is deleted', async () => {
    const pair = world.addRolePair('short-lived-role');
    world.domino.addUser({ name: 'gina', orgs: ['gina-org'] });
    await world.map(replica, 'gina-org', pair);
    const run = newRun();
    const { account } = world.startRun(run, 'gina');
    await ask('gina', run);
    assert.ok(world.subjects('short-lived-role').includes(`*:domino-compute:${account}`));
    await replica.call('DELETE', '/delete_role_mapping', { as: 'admin', body: { domino_org: 'gina-org' } });
    await until(() => !world.subjects('short-lived-role').includes(`*:domino-compute:${account}`));
    assert.match((await ask('gina', run)).text, /^# irsa-svc: no roles/);
  });

  it('removes the subject of a run at its next request after the user left the organization', async () => {
    const [kept, left] = [world.addRolePair('kept-role'), world.addRolePair('left-role')];
    world.domino.addUser({ name: 'lena', orgs: ['kept-org', 'left-org'] });
    await world.map(replica, 'kept-org', kept);
    await world.map(replica, 'left-org', left);
    const run = newRun();
    const { account } = world.startRun(run, 'lena');
    const subject = `*:domino-compute:${account}`;
    await ask('lena', run);
    assert.ok(world.subjects('left-role').includes(subject));
    world.domino.addUser({ name: 'lena', orgs: ['kept-org'] });
    // Longer than the service caches organizations.
    world.clock.skip(31_000);
    const { status, text } = await ask('lena', run);
    assert.deepEqual(
      [status, [...text.matchAll(/^\[profile (?!src_)(.*)\]$/gm)].map(([, name]) => name)],
      [200, ['kept-role']],
    );
    await until(() => !world.subjects('left-role').includes(subject));
    assert.ok(world.subjects('kept-role').includes(subject));
  });

  const badRunIds = [
    '*',
    'run-*',
    '../x',
    '__proto__',
    'x'.repeat(1_000),
    '',
    'run-',
    7,
    null,
    ['a'],
    `${runId(1)}\n`,
    runId(1).toUpperCase().replace('1', 'A'),
    `run-run-${runId(1)}`,
  ];
  for (const bad of badRunIds) {
    it(`refuses run_id ${JSON.stringify(bad).slice(0, 40)}`, async () => {
      const answer = await ask('alice', bad);
      assert.equal(answer.status, 400);
      assert.equal(answer.body.code, 'invalid_request');
      assert.ok(answer.body.errors.some(({ path }: { path: string }) => path.startsWith('/body/run_id')));
    });
  }

  it('refuses unknown fields and malformed workload types', async () => {
    const run = newRun();
    for (const more of [
      { surprise: 1 },
      { irsa_workload_type: 'a b' },
      { irsa_workload_type: 'x'.repeat(64) },
      { irsa_workload_type: {} },
    ]) {
      assert.equal((await ask('alice', run, more)).status, 400);
    }
  });

  it('invariant 9: no token or key reaches the log or the metrics', async () => {
    const run = newRun();
    world.startRun(run, 'bob');
    const token = world.domino.token('bob');
    const headers = { Authorization: `Bearer ${token}` };
    await replica.call('POST', '/map_iam_roles_to_pod_sa', { headers, body: { run_id: run } });
    await replica.call('GET', '/my_role_mappings', { headers: { 'X-Domino-Api-Key': 'bobs-key' } });
    await replica.call('GET', '/my_role_mappings', { headers: { Authorization: `Bearer ${token}x` } });
    world.domino.knobs.failStatus = 500;
    await replica.call('GET', '/my_role_mappings', { as: 'gina' });
    world.domino.knobs.failStatus = 0;
    const seen = JSON.stringify(replica.log) + (await replica.metrics.registry.metrics());
    assert.ok(seen.includes(run));
    for (const part of token.split('.')) assert.ok(!seen.includes(part));
    assert.ok(!seen.includes('bobs-key'));
    for (const secret of Object.values(world.aws.credentials)) assert.ok(!seen.includes(secret));
  });

  it('writes an audit line with the user, the run, the granted roles and the reasons of refused ones', async () => {
    const [good, bad] = [world.addRolePair('audited-good'), world.addRolePair('audited-bad')];
    // IAM returns a document with a deleted principal, and refuses to store it again.
    const statement = { Effect: 'Allow', Principal: { AWS: 'AROAEXAMPLEEXAMPLEEXA' }, Action: 'sts:AssumeRole' };
    world.aws.setTrust(clusterAccount, 'audited-bad', { Version: '2012-10-17', Statement: [statement] });
    world.domino.addUser({ name: 'henry', orgs: ['henry-org'] });
    await world.map(replica, 'henry-org', good, bad);
    const run = newRun();
    world.startRun(run, 'henry');
    await ask('henry', run);
    const line = replica.log.findLast((one) => one.audit === 'grant' && one.run === run);
    assert.equal(line?.user, 'henry');
    assert.deepEqual(line?.granted, [good.target]);
    assert.equal((line?.refused as { code: string }[] | undefined)?.[0]?.code, 'malformed_trust_policy');
  });

  it('keeps the metric names of release 1.8', async () => {
    const text = await replica.metrics.registry.metrics();
    const names = [
      'irsa_mapping_requests_total',
      'irsa_failed_maping_requests_total',
      'irsa_query_user_principal_total',
      'irsa_failed_query_user_principal_total',
      'irsa_query_user_org_membership_total',
      'irsa_failed_query_user_org_membership_total',
      'irsa_query_config_map_org_to_iamrole_mapping_total',
    ];
    for (const name of names) assert.match(text, new RegExp(`^${name} \\d+$`, 'm'));
    assert.match(text, /^irsa_lease_held 1$/m);
    assert.match(text, /irsa_proxy_role_members\{role="arn:aws:iam::111111111111:role\/acme-list-bucket-role"\} [1-9]/);
    assert.match(text, /irsa_iam_call_seconds_count\{action="UpdateAssumeRolePolicy",outcome="ok"\} [1-9]/);
    assert.match(
      text,
      /irsa_http_request_seconds_count\{method="POST",route="\/map_iam_roles_to_pod_sa",status="200"\} [1-9]/,
    );
  });

  it('gives a config file with which boto3 and the AWS CLI assume the target role', async function () {
    this.timeout(60_000);
    const run = newRun();
    const { account } = world.startRun(run, 'alice');
    const folder = mkdtempSync(join(tmpdir(), 'irsa-'));
    try {
      const tokenFile = join(folder, 'token');
      writeFileSync(tokenFile, await world.issuer.podToken({ serviceAccount: account }));
      const answer = await ask('alice', run);
      const text = answer.text.replaceAll('/var/run/secrets/eks.amazonaws.com/serviceaccount/token', tokenFile);
      writeFileSync(join(folder, 'config'), text);
      const env = { ...world.aws.environment(), AWS_CONFIG_FILE: join(folder, 'config') };
      const expected = `arn:aws:sts::${assetAccount}:assumed-role/acme-list-bucket-role/alice-${run}`;
      if (await hasBoto3()) {
        const script =
          "import boto3; print(boto3.Session(profile_name='acme-list-bucket-role').client('sts').get_caller_identity()['Arn'])";
        const { stdout, stderr } = await runBoto3(script, env);
        assert.equal(stdout.trim(), expected, stderr);
      } else console.log('      SKIPPED: boto3 is not on this machine');
      if (await hasAws()) {
        const { stdout, stderr } = await runAws(
          ['sts', 'get-caller-identity', '--profile', 'acme-list-bucket-role', '--query', 'Arn', '--output', 'text'],
          env,
        );
        assert.equal(stdout.trim(), expected, stderr);
      } else console.log('      SKIPPED: the AWS CLI is not on this machine');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  /** An unmanaged trust policy, so long that the quota leaves capacity for one run. */
  function documentWithCapacityForOne() {
    const document = (padding: number) => ({
      Version: '2012-10-17',
      Statement: [
        {
          Sid: `Padding${'x'.repeat(padding)}`,
          Effect: 'Allow',
          Principal: { AWS: `arn:aws:iam::${clusterAccount}:root` },
          Action: 'sts:AssumeRole',
        },
      ],
    });
    const { issuer } = world.issuer;
    const scope = {
      issuer,
      audience: 'sts.amazonaws.com',
      providerArn: `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer}`,
      namespace: 'domino-compute',
    };
    const text = JSON.stringify(document(0));
    const edit = editTrustPolicy(scope, text, [`run-${runId(1)}`], () => false, 2048);
    assert.equal(edit.kind, 'changed');
    return document(edit.kind === 'changed' ? 2048 - edit.size - 10 : 0);
  }
});
