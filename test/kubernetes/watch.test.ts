/** Owns the tests of watched lists: kept while quiet, resumed where they broke, listed again where history is gone. */
import assert from 'node:assert/strict';
import { KubeConfig } from '@kubernetes/client-node';
import { createKubernetesApi, type KubernetesApi } from '../../src/kubernetes/transport.ts';
import { type Watched, watchList } from '../../src/kubernetes/watch.ts';
import { createLog } from '../../src/lib/log.ts';
import { type KubernetesStandIn, startKubernetes } from '../stack/kubernetes.ts';
import type { Transport } from '../stack/kubernetes-transport.ts';
import { FakeClock, ShiftedClock, until } from '../support/clock.ts';

const path = '/api/v1/namespaces/default/configmaps';

for (const transport of ['h2', 'http1', 'plain'] satisfies Transport[]) {
  describe(`a watched list over ${transport}`, () => {
    let kubernetes: KubernetesStandIn;
    let serverClock: FakeClock;
    let clock: FakeClock;
    let api: KubernetesApi;
    let watched: Watched<string>;
    let restarts: number;
    let heard: string[];

    beforeEach(async () => {
      serverClock = new FakeClock();
      kubernetes = await startKubernetes({ transport, clock: serverClock });
      put('one', '1');
      const config = new KubeConfig();
      config.loadFromString(kubernetes.kubeconfig());
      api = createKubernetesApi(config, new ShiftedClock());
      restarts = 0;
      heard = [];
      clock = new FakeClock();
      watched = watchList({
        api,
        path,
        trim: (object) => (object as { data?: { x?: string } }).data?.x ?? '',
        clock,
        log: createLog('silent'),
        onRestart: () => {
          restarts += 1;
        },
      });
      watched.onChange((name, value) => heard.push(`${name} ${value ?? 'gone'}`));
      await watched.synced;
    });
    afterEach(async () => {
      watched.stop();
      api.close();
      await kubernetes.close();
    });

    function put(name: string, x: string) {
      kubernetes.put('configmaps', { metadata: { name, namespace: 'default' }, data: { x } });
    }
    const opened = () => kubernetes.calls.get('watch configmaps') ?? 0;
    const listed = () => kubernetes.calls.get('list configmaps') ?? 0;
    const again = async (condition: () => boolean) => {
      await until(async () => {
        await clock.advance(200);
        return condition();
      });
    };

    it('keeps its watch while it is quiet, as long as bookmarks arrive', async () => {
      await clock.advance(140_000);
      assert.deepEqual([opened(), watched.isLive()], [1, true]);
      for (let minute = 0; minute < 5; minute += 1) {
        // A change after the bookmark shows when the bookmark has arrived.
        await serverClock.advance(60_000);
        put('one', `at ${minute}`);
        await until(() => watched.get('one') === `at ${minute}`);
        await clock.advance(140_000);
      }
      assert.deepEqual([opened(), listed(), restarts], [1, 1, 0]);
    });

    it('restarts its watch after 150 s without an event, without a new list', async () => {
      await clock.advance(150_001);
      await again(() => opened() === 2);
      put('one', '2');
      await until(() => watched.get('one') === '2');
      assert.deepEqual([listed(), restarts], [1, 1]);
    });

    it('resumes where its watch broke, over HTTP/2 on the same connection', async () => {
      const connections = kubernetes.openedConnections();
      for (const x of ['2', '3', '4']) {
        const before = opened();
        kubernetes.cutWatches();
        put('one', x);
        await again(() => opened() > before && watched.get('one') === x);
      }
      assert.equal(listed(), 1);
      if (transport === 'h2') assert.equal(kubernetes.openedConnections(), connections);
      assert.deepEqual(heard, ['one 1', 'one 2', 'one 3', 'one 4']);
    });

    it('is listed again where history is gone, and drops what was deleted meanwhile', async () => {
      put('two', '1');
      await until(() => watched.get('two') === '1');
      kubernetes.expire();
      kubernetes.cutWatches();
      kubernetes.remove('configmaps', 'default', 'two');
      kubernetes.expire();
      await again(() => watched.get('two') === undefined);
      assert.deepEqual([...watched.values()], ['1']);
      // The unchanged object is not reported again.
      assert.deepEqual(heard, ['one 1', 'two 1', 'two gone']);
    });

    it('invariant 3: is not whole after an empty or half-empty list, until a later list confirms it', async () => {
      const listAgain = () => {
        kubernetes.expire();
        kubernetes.cutWatches();
      };
      assert.equal(watched.isWhole(), true);
      kubernetes.knobs.emptyLists = true;
      listAgain();
      await again(() => watched.get('one') === undefined);
      assert.equal(watched.isWhole(), false);
      // An event brings back what changes, and nothing else.
      put('two', '1');
      await again(() => watched.get('two') === '1');
      assert.equal(watched.isWhole(), false);
      kubernetes.knobs.emptyLists = false;
      await again(() => watched.get('one') === '1');
      assert.equal(watched.isWhole(), true);

      for (const name of ['three', 'four', 'five']) put(name, '1');
      await again(() => watched.get('five') === '1');
      kubernetes.cutWatches();
      for (const name of ['one', 'two', 'three']) kubernetes.remove('configmaps', 'default', name);
      listAgain();
      await again(() => watched.get('one') === undefined && !watched.isWhole());
      await again(() => watched.isWhole());
      assert.equal([...watched.values()].length, 2);
    });

    it('confirms an empty list by a second list, and then watches at once', async () => {
      kubernetes.remove('configmaps', 'default', 'one');
      await until(() => watched.get('one') === undefined);
      const begun = new FakeClock();
      const empty = watchList({ api, path, trim: () => '', clock: begun, log: createLog('silent') });
      await empty.synced;
      const [before, opens] = [listed(), opened()];
      await begun.advance(5_000);
      await until(() => listed() === before + 1 && opened() === opens + 1 && empty.isLive());
      empty.stop();
    });

    it('is not live from when its watch breaks until a new watch is open', async () => {
      kubernetes.knobs.down = true;
      await until(() => !watched.isLive());
      kubernetes.knobs.down = false;
      await again(() => watched.isLive());
    });

    it('reports a change within 10 s when all open connections go silent', async function () {
      this.timeout(30_000);
      kubernetes.knobs.silent = 'open';
      put('one', '2');
      const startedAt = performance.now();
      // Like a renewal of the lease: over HTTP/1.1 it shows the silence.
      if (transport !== 'h2') await assert.rejects(api.call('POST', path, { deadlineMs: 1_500, body: {} }));
      await until(async () => {
        await clock.advance(100);
        return watched.get('one') === '2';
      }, 10_000);
      assert.ok(performance.now() - startedAt < 10_000);
    });
  });
}
