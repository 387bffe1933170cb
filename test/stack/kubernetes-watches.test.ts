/** Tests the Kubernetes stand-in's watches: order, selection, history, bookmarks and timeouts. */
import assert from 'node:assert/strict';
import { type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { call, openWatch } from './kubernetes-raw.ts';
import { dominoPod } from './pods.ts';

const namespace = 'field';

describe('a watch of the Kubernetes stand-in', () => {
  let kubernetes: KubernetesStandIn;
  let maps: string;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    maps = `${kubernetes.url}/api/v1/namespaces/${namespace}/configmaps`;
  });

  afterEach(() => kubernetes.close());

  const put = (name: string, x: string, labels: Record<string, string> = {}) =>
    kubernetes.put('configmaps', { metadata: { name, namespace, labels }, data: { x } });
  const versionNow = async () => (await call(maps)).body.metadata?.resourceVersion ?? '';

  it('sends the existing objects of its namespace, then their changes', async () => {
    put('one', '1');
    const watch = await openWatch(`${maps}?watch=true`);
    assert.equal(await watch.brief(), 'ADDED one 1');
    kubernetes.put('configmaps', { metadata: { name: 'elsewhere' } });
    put('one', '1');
    put('one', '2');
    kubernetes.remove('configmaps', namespace, 'one');
    assert.equal(await watch.brief(), 'MODIFIED one 2');
    const gone = await watch.next();
    assert.deepEqual([gone?.type, gone?.object.data], ['DELETED', { x: '2' }]);
    assert.equal(gone?.object.metadata?.resourceVersion, await versionNow());
  });

  it('resumes from a resourceVersion without a gap or a repetition', async () => {
    put('one', '1');
    const version = await versionNow();
    put('one', '2');
    kubernetes.remove('configmaps', namespace, 'one');
    put('one', '3');
    const watch = await openWatch(`${maps}?watch=1&resourceVersion=${version}`);
    put('two', '4');
    const seen = [await watch.brief(), await watch.brief(), await watch.brief(), await watch.brief()];
    assert.deepEqual(seen, ['MODIFIED one 2', 'DELETED one 2', 'ADDED one 3', 'ADDED two 4']);
  });

  it('sends ADDED and DELETED when an object begins or ceases to match the label selector', async () => {
    put('one', '1', { app: 'x' });
    const watch = await openWatch(`${maps}?watch=true&labelSelector=app%3Dx`);
    assert.equal(await watch.brief(), 'ADDED one 1');
    put('two', '1');
    put('one', '2');
    assert.equal(await watch.brief(), 'DELETED one 1', 'the object as it was while it matched');
    put('one', '3');
    put('one', '4', { app: 'x' });
    assert.equal(await watch.brief(), 'ADDED one 4');
  });

  it('sends DELETED when an object ceases to match the field selector', async () => {
    const pod = { metadata: { name: 'p', namespace } };
    const url = `${kubernetes.url}/api/v1/pods?watch=true&fieldSelector=status.phase%3DRunning`;
    kubernetes.put('pods', { ...pod, status: { phase: 'Running' } });
    const watch = await openWatch(url);
    assert.equal(await watch.brief(), 'ADDED p');
    kubernetes.put('pods', { ...pod, status: { phase: 'Succeeded' } });
    assert.equal(await watch.brief(), 'DELETED p');
  });

  it('sends a 410 as an event and ends when its resourceVersion is older than the history', async () => {
    put('one', '1');
    const version = await versionNow();
    kubernetes.expire();
    const watch = await openWatch(`${maps}?watch=true&resourceVersion=${version}`);
    const event = await watch.next();
    assert.deepEqual([event?.type, event?.object.code, event?.object.reason], ['ERROR', 410, 'Expired']);
    assert.equal(await watch.next(), undefined);
    const again = await openWatch(`${maps}?watch=true&resourceVersion=${await versionNow()}`);
    put('one', '2');
    assert.equal(await again.brief(), 'MODIFIED one 2');
  });

  it('resumes only within historyWindow changes', async () => {
    const small = await startKubernetes({ historyWindow: 10 });
    const url = `${small.url}/api/v1/configmaps?watch=true&resourceVersion=`;
    for (let x = 0; x < 100; x += 1) small.put('configmaps', { metadata: { name: 'one' }, data: { x: String(x) } });
    const last = Number(small.get('configmaps', 'default', 'one')?.metadata?.resourceVersion);
    assert.equal((await (await openWatch(url + (last - 10))).next())?.type, 'MODIFIED');
    assert.equal((await (await openWatch(url + (last - 50))).next())?.type, 'ERROR');
    await small.close();
  });

  it('sends bookmarks only to a client that asks for them', async () => {
    put('one', '1');
    kubernetes.knobs.bookmarkSeconds = 0.005;
    const version = await versionNow();
    const other = await openWatch(`${maps}?watch=true&resourceVersion=${version}`);
    const watch = await openWatch(`${maps}?watch=true&allowWatchBookmarks=true&resourceVersion=${version}`);
    for (let time = 0; time < 3; time += 1) {
      const event = await watch.next();
      assert.deepEqual([event?.type, event?.object.metadata?.resourceVersion], ['BOOKMARK', version]);
    }
    put('one', '2');
    assert.equal(await other.brief(), 'MODIFIED one 2');
  });

  it('streams an initial list that ends with a bookmark', async () => {
    put('one', '1');
    const watch = await openWatch(
      `${maps}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true`,
    );
    assert.equal(await watch.brief(), 'ADDED one 1');
    const end = await watch.next();
    assert.equal(end?.object.metadata?.annotations?.['k8s.io/initial-events-end'], 'true');
  });

  it('ends at its timeout', async () => {
    const watch = await openWatch(`${maps}?watch=true&timeoutSeconds=0.005`);
    assert.equal(await watch.brief(), 'END');
    assert.equal(kubernetes.openWatches(), 0);
  });

  it('lists and watches 10,000 pods from five clients', async () => {
    const owner = { userId: 'u', userName: 'alice', runId: '646d27b817c28b5ea4b5b0c1' };
    kubernetes.putMany(
      'pods',
      Array.from({ length: 10_000 }, (_, index) => {
        // Small pods: the test is about their number, and pods of real size would cost memory and seconds.
        const { metadata, status } = dominoPod({ ...owner, index });
        return { metadata: { ...metadata, name: `run-${index}` }, status };
      }),
    );
    const { body } = await call(`${kubernetes.url}/api/v1/pods`);
    assert.equal(body.items?.length, 10_000);
    const url = `${kubernetes.url}/api/v1/pods?watch=true&resourceVersion=${body.metadata?.resourceVersion}`;
    const watches = await Promise.all(Array.from({ length: 5 }, () => openWatch(url)));
    assert.equal(kubernetes.openWatches(), 5);
    for (let index = 0; index < 1_000; index += 1) kubernetes.remove('pods', 'domino-compute', `run-${index}`);
    for (const watch of watches) {
      for (let index = 0; index < 1_000; index += 1) assert.equal(await watch.brief(), `DELETED run-${index}`);
      watch.stop();
    }
  });
});
