/** Proves that the service recovers from refusals of the API server and from deletions: IAM then has the live runs. */
import assert from 'node:assert/strict';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { orSkip } from '../tools.ts';
import { leaveNoSeat, refusedCalls } from './flow-control.ts';
import { goOn, type Lives, startLives } from './lives.ts';
import { compute, field, merging, type RealWorld, serviceUser, startRealWorld } from './world.ts';

const rbac = '/apis/rbac.authorization.k8s.io/v1/namespaces';

describe('IAM has exactly the live runs after a refusal of kube-apiserver', function () {
  this.timeout(30 * 60_000);
  let world: RealWorld;
  let replica: Replica;
  let lives: Lives;
  let pair: { target: string; proxies: string[] };

  before(async function () {
    world = await orSkip(this, () => startRealWorld({ RESYNC_SECONDS: '5' }));
    ({ replica, pair, lives } = await startLives(world));
  });
  after(() => world?.stop());
  afterEach(() => goOn(lives));

  it('429 of API Priority and Fairness for all but one call of the service at a time', async () => {
    const [, , namespace = '', name = ''] = serviceUser.split(':');
    const calm = await leaveNoSeat(world.cluster, { kind: 'ServiceAccount', serviceAccount: { namespace, name } });
    let waves = 0;
    const wave = () => {
      waves += 1;
      return Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          const body = { service_account_name: `without-a-seat-${waves}-${index}` };
          const { status, text } = await replica.call('POST', '/service_account', { as: 'admin', body });
          return status === 503 ? '503' : `${status} ${text}`;
        }),
      );
    };
    const seen = new Set<string>();
    await until(async () => {
      for (const answer of await wave()) seen.add(answer);
      return (await refusedCalls(world.cluster)) > 20;
    }, 90_000);
    assert.deepEqual(
      [...seen].filter((answer) => !/^(200 |503$)/.test(answer)),
      [],
    );
    const { run } = await lives.start();
    await lives.end();
    const answers = await Promise.all([lives.ask(run), wave()]);
    assert.ok([200, 503].includes(answers[0].status));
    await calm();
    await lives.untilGranted(run);
  });

  it('RoleBindings that are deleted and restored', async () => {
    const paths = ['domino-field', 'domino-compute'].map((space) => `${rbac}/${space}/rolebindings`);
    const bindings = await Promise.all(paths.map((path) => world.cluster.must('GET', `${path}/irsa-svc`)));
    for (const path of paths) await world.cluster.must('DELETE', `${path}/irsa-svc`);
    await lives.end();
    const { run } = await lives.start();
    assert.notEqual((await lives.ask(run)).status, 200);
    for (const [index, { apiVersion, kind, roleRef, subjects, metadata }] of bindings.entries()) {
      const { name, labels } = metadata ?? {};
      await world.cluster.must('POST', paths[index] ?? '', {
        apiVersion,
        kind,
        roleRef,
        subjects,
        metadata: { name, labels },
      });
    }
    await lives.untilGranted(run);
  });

  it('an exhausted quota', async () => {
    const hard = { 'count/serviceaccounts': '0' };
    await world.cluster.must('POST', `${compute}/resourcequotas`, { metadata: { name: 'full' }, spec: { hard } });
    // No controller runs that counts objects; the plugin reads the status.
    await world.cluster.must(
      'PATCH',
      `${compute}/resourcequotas/full/status`,
      { status: { hard, used: hard } },
      merging,
    );
    const body = { service_account_name: 'one-too-many' };
    const post = () => replica.call('POST', '/service_account', { as: 'admin', body });
    await until(async () => (await post()).status === 409, 30_000);
    assert.equal((await post()).body.code, 'kubernetes_refused');
    await world.cluster.must('DELETE', `${compute}/resourcequotas/full`);
    await until(async () => (await post()).status === 200, 30_000);
  });

  it('an admission policy that refuses role requests', async () => {
    const path = '/apis/admissionregistration.k8s.io/v1';
    const name = 'no-annotations';
    const rule = { apiGroups: [''], apiVersions: ['v1'], operations: ['UPDATE'], resources: ['serviceaccounts'] };
    const validations = [{ expression: 'false', message: 'not today' }];
    const spec = { failurePolicy: 'Fail', matchConstraints: { resourceRules: [rule] }, validations };
    await world.cluster.must('POST', `${path}/validatingadmissionpolicies`, { metadata: { name }, spec });
    const binding = { metadata: { name }, spec: { policyName: name, validationActions: ['Deny'] } };
    await world.cluster.must('POST', `${path}/validatingadmissionpolicybindings`, binding);
    const asked: string[] = [];
    await until(async () => {
      const { run, account } = await lives.start();
      const answer = await lives.ask(run);
      asked.push(run);
      if (answer.status === 200) lives.model.set(run, account);
      return answer.body.code === 'kubernetes_refused' && /not today/.test(answer.text);
    }, 60_000);
    await world.cluster.must('DELETE', `${path}/validatingadmissionpolicybindings/${name}`);
    await world.cluster.must('DELETE', `${path}/validatingadmissionpolicies/${name}`);
    await lives.untilGranted(asked.at(-1) ?? '');
  });

  it('mappings that are deleted and stored again', async () => {
    assert.ok(lives.model.size > 0);
    await world.cluster.must('DELETE', `${field}/configmaps/domino-org-iamrole-mapping`);
    await until(() => world.members(pair.proxies[0] ?? '').length === 0, 90_000);
    await world.map(replica, 'acme', pair);
    await lives.settled();
    for (const run of lives.model.keys()) await lives.untilGranted(run);
  });

  it('the compute namespace, deleted with all its objects and restored', async () => {
    const { run } = await lives.start();
    await world.deleteNamespace('domino-compute');
    lives.model.clear();
    // Without its RoleBinding the service may not read pods, so it removes no member and adds none.
    assert.notEqual((await lives.ask(run)).status, 200);
    await world.reinstall('domino-compute');
    await lives.settled();
    for (let each = 0; each < 2; each += 1) await lives.grant();
  });

  it('the field namespace, deleted and installed again', async () => {
    await world.deleteNamespace('domino-field');
    const { run } = await lives.start();
    await lives.end();
    await world.reinstall('domino-field');
    const remapped = () =>
      world.map(replica, 'acme', pair).then(
        () => true,
        () => false,
      );
    await until(remapped, 90_000);
    for (const each of [...lives.model.keys(), run]) await lives.untilGranted(each);
  });
});
