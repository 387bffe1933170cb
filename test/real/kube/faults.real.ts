/** Proves that the service recovers from faults of the API server and its connections: IAM then has the live runs. */
import assert from 'node:assert/strict';
import { until } from '../../support/clock.ts';
import type { Replica } from '../../support/replica.ts';
import { runId } from '../../support/world.ts';
import { orSkip } from '../tools.ts';
import { goOn, type Lives, startLives } from './lives.ts';
import { type RealWorld, startRealWorld } from './world.ts';

describe('IAM has exactly the live runs after a fault of kube-apiserver', function () {
  this.timeout(30 * 60_000);
  let world: RealWorld;
  let replica: Replica;
  let lives: Lives;

  before(async function () {
    // The most that the API server lets one set: every fiftieth call comes with the connection's GOAWAY.
    world = await orSkip(this, () => startRealWorld({ RESYNC_SECONDS: '5' }, { flags: ['--goaway-chance=0.02'] }));
    ({ replica, lives } = await startLives(world));
  });
  after(() => world?.stop());
  afterEach(() => goOn(lives));

  it('an orderly restart', () => world.cluster.restart());

  it('a kill', () => world.cluster.restart({ signal: 'SIGKILL' }));

  it('a kill and a compaction, while runs start and end unseen', async () => {
    world.cluster.gate.silence(true);
    await lives.end();
    const { run } = await lives.start();
    await world.cluster.compact();
    await world.cluster.restart({ signal: 'SIGKILL' });
    await world.cluster.compact();
    world.cluster.gate.speak();
    await lives.untilGranted(run);
  });

  it('connections that go silent', async () => {
    world.cluster.gate.silence(false);
    await lives.end();
  });

  it('a network that goes silent for a while', async () => {
    world.cluster.gate.silence(true);
    await lives.end();
    const { run } = await lives.start();
    const answer = lives.ask(run);
    world.cluster.gate.speak();
    await answer;
    await lives.untilGranted(run);
  });

  it('GOAWAY during many calls, which all succeed', async () => {
    const before = world.cluster.gate.opened;
    // One call in fifty gets a GOAWAY, so the chance of 20 waves without one is 1 in 10^8.
    for (let wave = 0; wave < 4 || (wave < 20 && world.cluster.gate.opened === before); wave += 1) {
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, index) => {
          const service_account_name = `made-${wave}-${index}`;
          return replica.call('POST', '/service_account', { as: 'admin', body: { service_account_name } });
        }),
      );
      const refused = answers.filter(({ status }) => status !== 200).map(({ body }) => body.request_id as string);
      const why = replica.log.filter(({ request_id: id }) => refused.includes(String(id)));
      assert.deepEqual(refused, [], JSON.stringify(why));
    }
    assert.ok(world.cluster.gate.opened > before, 'no connection was replaced');
  });

  it('a frozen API server', async () => {
    const thaw = world.cluster.freeze('kube-apiserver');
    const [run = ''] = lives.model.keys();
    const answer = lives.ask(run);
    await until(() => replica.call('GET', '/readyz').then(({ status }) => status === 503), 60_000);
    thaw();
    await answer;
  });

  it('a frozen etcd', async () => {
    const thaw = world.cluster.freeze('etcd');
    const late = lives.ask(runId(100_000));
    assert.notEqual((await late).status, 200);
    thaw();
  });

  it('a token that is no longer valid', () => world.replaceToken());

  it('a new signing key', async () => {
    await world.cluster.replaceSigningKey();
    world.aws.trustIssuer(world.cluster.issuer, await world.cluster.jwks());
    await world.replaceToken();
  });
});
