/** Proves that nothing is written while release 1.8 runs beside this one, and that writes resume when it is gone. */
import assert from 'node:assert/strict';
import { type Deployment, toDeployment } from '../../src/kubernetes/objects.ts';
import { KubernetesError } from '../../src/kubernetes/transport.ts';
import { createPredecessor } from '../../src/leader/earlier-release.ts';
import { createLog } from '../../src/lib/log.ts';
import { FakeClock, until } from '../support/clock.ts';
import { runId, startWorld, type World } from '../support/world.ts';

type Answer = Deployment | KubernetesError | undefined;
const earlier = { isOurs: false, replicas: 1, wanted: 1, ready: 1 };

describe('the detection of release 1.8', () => {
  let clock: FakeClock;
  let answer: Answer;
  let looks: number;
  let works: AbortSignal[];
  let lines: { level: string; msg: string }[];
  let stop: AbortController;
  let done: Promise<void>;

  function start(first: Answer): void {
    clock = new FakeClock();
    answer = first;
    [looks, works, lines] = [0, [], []];
    stop = new AbortController();
    const log = createLog('info', { write: (line: string) => void lines.push(JSON.parse(line)) });
    const getDeployment = async (name: string) => {
      assert.equal(name, 'irsa');
      looks += 1;
      if (answer instanceof Error) throw answer;
      return answer;
    };
    const predecessor = createPredecessor({ kubernetes: { getDeployment }, deployment: 'irsa', clock, log });
    done = predecessor.without(stop.signal, async (signal) => {
      works.push(signal);
      await clock.sleep(1e9, signal);
    });
  }
  afterEach(async () => {
    stop.abort();
    await clock.advance(0);
    await done;
    assert.equal(clock.sleeping, 0);
  });

  const isWorking = () => works.some((signal) => !signal.aborted);
  const levels = () => lines.map(({ level }) => level);

  for (const [what, found] of [
    ['it is not installed', undefined],
    ['it has no replicas', { ...earlier, replicas: 0 }],
    ['the Deployment of that name belongs to this release', { ...earlier, isOurs: true, replicas: 3 }],
  ] as [string, Answer][]) {
    it(`lets the leader work when ${what}, and keeps checking`, async () => {
      start(found);
      await clock.advance(60_000);
      assert.deepEqual([works.length, isWorking(), levels()], [1, true, []]);
      assert.ok(looks >= 6);
    });
  }

  it('lets the leader wait until release 1.8 is gone, with one error in the log', async () => {
    start(earlier);
    await clock.advance(60_000);
    assert.deepEqual([works.length, levels()], [0, ['error']]);
    answer = undefined;
    await clock.advance(10_000);
    assert.deepEqual([isWorking(), levels()], [true, ['error', 'info']]);
  });

  it('stops the work within ten seconds of a rollback to release 1.8, and resumes it afterwards', async () => {
    start(undefined);
    await clock.advance(15_000);
    answer = earlier;
    await clock.advance(10_000);
    assert.equal(isWorking(), false);
    answer = { ...earlier, replicas: 0 };
    await clock.advance(10_000);
    assert.deepEqual([works.length, isWorking()], [2, true]);
  });

  it('lets the leader wait for the first answer of the API server, and keeps that while later ones fail', async () => {
    const away = new KubernetesError('unavailable', 'away');
    start(away);
    await clock.advance(5_000);
    assert.equal(works.length, 0);
    answer = undefined;
    await clock.advance(1_000);
    assert.equal(isWorking(), true);
    answer = away;
    await clock.advance(60_000);
    assert.deepEqual([works.length, isWorking()], [1, true]);
  });

  it('lets the leader work without the permission to check, and warns once', async () => {
    start(new KubernetesError('unavailable', 'forbidden', 403));
    await clock.advance(60_000);
    assert.deepEqual([isWorking(), levels()], [true, ['warn']]);
  });

  it('recognizes this release by the labels of its pods, and counts pods that are still ending', () => {
    const of = (name: string, replicas?: number, still = 0) =>
      toDeployment({
        spec: {
          ...(replicas === undefined ? {} : { replicas }),
          selector: {},
          template: { metadata: { labels: name === 'irsa' ? { app: 'irsa' } : { 'app.kubernetes.io/name': name } } },
        },
        status: { replicas: still },
      });
    start(undefined);
    assert.deepEqual(of('irsa'), { isOurs: false, replicas: 1, wanted: 1, ready: 0 });
    assert.deepEqual(of('irsa', 0, 1), { isOurs: false, replicas: 1, wanted: 0, ready: 0 });
    assert.deepEqual(of('irsa-svc', 3), { isOurs: true, replicas: 3, wanted: 3, ready: 0 });
  });
});

describe('a replica beside release 1.8', () => {
  let world: World;
  before(async () => {
    world = await startWorld({ GRANT_TIMEOUT_SECONDS: '1' });
    world.domino.addUser({ name: 'alice', orgs: ['acme'] });
  });
  after(() => world.stop());

  it('writes no trust policy, logs why, and reports irsa_lease_held 0', async () => {
    const metadata = { name: 'irsa', namespace: 'domino-field' };
    const template = { metadata: { labels: { app: 'irsa' } } };
    world.kubernetes.put('deployments', { metadata, spec: { replicas: 1, template } });
    const replica = await world.startReplica();
    await until(() => replica.log.some(({ msg }) => String(msg).startsWith('release 1.8 runs beside this one')));
    await world.map(replica, 'acme', world.addRolePair('acme'));
    const run = runId(1);
    world.startRun(run, 'alice');
    const { status } = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
    assert.equal(status, 503);
    assert.deepEqual(world.aws.writes, []);
    const { values } = await replica.metrics.leaseHeld.get();
    assert.deepEqual(
      values.map(({ value }) => value),
      [0],
    );
  });
});
