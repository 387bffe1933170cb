/** Proves that a revoked run is denied even where it has more token roles than the revocation can name. STS decides. */
import assert from 'node:assert/strict';
import type { V1ServiceAccount } from '@kubernetes/client-node';
import { wantedAnnotation } from '../../src/kubernetes/objects.ts';
import { anyRole, revokedTokens } from '../../src/runs/held-tokens.ts';
import type { RoleRequest } from '../../src/runs/role-request.ts';
import { until } from '../support/clock.ts';
import { mapRoles, removeStatuses, startTokenWorld, workingToken } from '../support/role-tokens.ts';
import { assumes } from '../support/roles.ts';
import { type Replica, runId, type World } from '../support/world.ts';

describe('a revoked run with hundreds of token roles', () => {
  let world: World;
  let replica: Replica;
  let proxy: string;
  let next = 0;

  beforeEach(async () => {
    const { target, ...started } = await startTokenWorld(['alice']);
    ({ world, replica, proxy } = started);
    await mapRoles(replica, 'acme', { iam_role_arn: target, proxy_iam_role_arn: proxy, carrier: 'token' });
  });
  afterEach(() => world.stop());

  function start() {
    next += 1;
    const run = runId(next);
    return { run, ...world.startRun(run, 'alice') };
  }
  const tokenFor = (one: { run: string; pod: string }) => workingToken({ replica, proxy }, one);
  const revoke = (run: string) => replica.call('POST', '/revoke_run', { as: 'admin', body: { run_id: run } });
  /** Adds 250 roles to the run's request, as if it held their tokens. */
  function holdMore(account: string): void {
    const stored = world.kubernetes.get<V1ServiceAccount>('serviceaccounts', 'domino-compute', account);
    const request = JSON.parse(stored?.metadata?.annotations?.[wantedAnnotation] ?? '') as RoleRequest;
    const more = Array.from({ length: 250 }, (_, index) => {
      const name = `role-${String(index).padStart(30, '0')}`;
      return {
        target: `arn:aws:iam::222222222222:role/${name}`,
        arn: `arn:aws:iam::111111111111:role/${name}`,
        org: 'acme',
      };
    });
    const wanted = JSON.stringify({ ...request, tokens: [...(request.tokens ?? []), ...more] });
    const annotations = { ...stored?.metadata?.annotations, [wantedAnnotation]: wanted };
    world.kubernetes.put('serviceaccounts', { ...stored, metadata: { ...stored?.metadata, annotations } });
  }

  it('is denied though it and the leader end before its Deny is written, and no answer says so earlier', async () => {
    const run = start();
    const token = await tokenFor(run);
    holdMore(run.account);
    world.aws.knobs.failRate = { GetRole: { code: 'ServiceFailure', rate: 1 } };
    const revoking = revoke(run.run);
    await until(async () => (await replica.call('GET', '/revoked_runs', { as: 'admin' })).body.total === 1);
    world.clock.skip(6_000);
    assert.equal((await revoking).body.left, false);
    world.endRun(run.run);
    await replica.stop();
    removeStatuses(world);
    replica = await world.startReplica();
    const again = await revoke(run.run);
    assert.ok(await assumes(token, proxy));
    assert.equal(again.body.left, false, again.text);
    world.aws.knobs.failRate = {};
    await tokenFor(start());
    assert.equal((await revoke(run.run)).body.left, true);
    assert.equal(await assumes(token, proxy), false, 'a copied token works');
  }).timeout(60_000);
});

describe('the record of a revoked run’s tokens', () => {
  const now = Date.parse('2026-11-21T12:00:00Z');
  const roles = (count: number) =>
    Array.from({ length: count }, (_, index) => ({ arn: `arn:aws:iam::111111111111:role/${index}` }));

  it('names the roles, and stands for any role where there are too many', () => {
    const few = revokedTokens(
      new Map([
        ['run-1', roles(3)],
        ['run-2', []],
      ]),
      now,
      600_000,
    );
    assert.deepEqual(few?.held, { 'run-1': roles(3).map(({ arn }) => arn) });
    const many = revokedTokens(
      new Map([
        ['run-1', roles(600)],
        ['run-2', roles(1)],
      ]),
      now,
      600_000,
    );
    assert.deepEqual(many, { until: few?.until, held: { 'run-1': [anyRole], 'run-2': [anyRole] } });
  });

  it('takes about 64 KiB at most, whatever a run has', () => {
    const accounts = Array.from({ length: 5_000 }, (_, index) => [`account-${index}`, roles(5)] as const);
    const text = JSON.stringify(revokedTokens(new Map(accounts), now, 600_000));
    assert.ok(text.length < 66_000 && text.length > 60_000, `${text.length}`);
    assert.equal(revokedTokens(new Map([['run-1', []]]), now, 600_000), undefined);
  });
});
