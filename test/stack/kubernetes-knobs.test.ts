/** Tests the Kubernetes stand-in's knobs for faults, and its authentication and authorization. */
import assert from 'node:assert/strict';
import { type AccessRequest, type KubernetesStandIn, startKubernetes } from './kubernetes.ts';
import { call, openWatch } from './kubernetes-raw.ts';

describe('Kubernetes stand-in: faults', () => {
  let kubernetes: KubernetesStandIn;
  let maps: string;

  beforeEach(async () => {
    kubernetes = await startKubernetes();
    maps = `${kubernetes.url}/api/v1/namespaces/default/configmaps`;
  });

  afterEach(() => kubernetes.close());

  const put = (x: string) => kubernetes.put('configmaps', { metadata: { name: 'one' }, data: { x } });

  it('fails the same calls for the same seed', async () => {
    kubernetes.knobs.failRate = 0.5;
    kubernetes.knobs.failStatus = 503;
    const run = async () => {
      kubernetes.knobs.seed = 7;
      const codes: number[] = [];
      for (let index = 0; index < 30; index += 1) codes.push((await call(maps)).code);
      return codes;
    };
    const first = await run();
    assert.deepEqual(new Set(first), new Set([200, 503]));
    assert.deepEqual(await run(), first);
  });

  it('sends Retry-After and plain text with a 429', async () => {
    kubernetes.knobs.failRate = 1;
    kubernetes.knobs.failStatus = 429;
    const response = await fetch(maps);
    assert.deepEqual([response.status, response.headers.get('retry-after')], [429, '1']);
    assert.equal(await response.text(), 'Too many requests, please try again later.\n');
  });

  it('delays each answer by latencyMs', async () => {
    const slept: number[] = [];
    const clock = { now: () => 0, monotonic: () => 0, sleep: async (ms: number) => void slept.push(ms) };
    const slow = await startKubernetes({ clock });
    slow.knobs.bookmarkSeconds = 0;
    slept.length = 0;
    slow.knobs.latencyMs = 40;
    await call(`${slow.url}/api/v1/pods`);
    assert.deepEqual(slept, [40]);
    await slow.close();
  });

  it('drops calls and watches while down, and keeps its objects', async () => {
    const watch = await openWatch(`${maps}?watch=true`);
    kubernetes.knobs.down = true;
    await assert.rejects(watch.next());
    await assert.rejects(fetch(maps));
    put('1');
    kubernetes.knobs.down = false;
    assert.equal((await call(maps)).body.items?.length, 1);
  });

  it('ends open watches on cutWatches', async () => {
    const watch = await openWatch(`${maps}?watch=true`);
    kubernetes.cutWatches();
    await assert.rejects(watch.next());
    assert.equal(kubernetes.openWatches(), 0);
    put('1');
  });

  it('holds watch events back while freezeWatches is on, then sends them in order', async () => {
    const watch = await openWatch(`${maps}?watch=true`);
    kubernetes.knobs.freezeWatches = true;
    put('1');
    put('2');
    let early = false;
    const first = watch.brief().finally(() => {
      early = kubernetes.knobs.freezeWatches;
    });
    assert.equal((await call(maps)).body.items?.length, 1, 'lists still work');
    kubernetes.knobs.freezeWatches = false;
    assert.deepEqual([await first, await watch.brief(), early], ['ADDED one 1', 'MODIFIED one 2', false]);
  });

  it('answers lists without items while emptyLists is on, and still returns a single object', async () => {
    put('1');
    kubernetes.knobs.emptyLists = true;
    const { code, body } = await call(maps);
    assert.deepEqual([code, body.items], [200, []]);
    assert.equal((await call(`${maps}/one`)).code, 200);
  });

  it('accepts knobs and orders over HTTP', async () => {
    const stack = `${kubernetes.url}/__stack`;
    await openWatch(`${maps}?watch=true`);
    assert.deepEqual((await call(`${stack}/watches`)).body, { open: 1 });
    await call(`${stack}/cut-watches`, 'POST');
    assert.deepEqual((await call(`${stack}/watches`)).body, { open: 0 });
    await call(`${stack}/knobs`, 'POST', { emptyLists: true, bookmarkSeconds: 1 });
    assert.deepEqual([kubernetes.knobs.emptyLists, kubernetes.knobs.bookmarkSeconds], [true, 1]);
    assert.equal((await call(`${stack}/knobs`, 'POST', { noSuchKnob: true })).code, 400);
    assert.equal((await call(`${stack}/knobs`, 'POST', { down: 'yes' })).code, 400);
    assert.equal((await call(`${stack}/knobs`, 'POST', { down: true })).code, 200);
    await assert.rejects(fetch(maps));
    await call(`${stack}/knobs`, 'POST', { down: false, emptyLists: false });
    const before = put('1').data;
    const { metadata } = (await call(maps)).body;
    await call(`${stack}/expire`, 'POST');
    const late = await openWatch(`${maps}?watch=true&resourceVersion=${metadata?.resourceVersion}`);
    assert.equal((await late.next())?.type, 'ERROR');
    assert.deepEqual(kubernetes.get('configmaps', 'default', 'one')?.data, before);
    assert.deepEqual((await call(`${stack}/calls`)).body, { 'watch configmaps': 2, 'list configmaps': 1 });
    await call(`${stack}/calls`, 'DELETE');
    assert.equal(kubernetes.calls.size, 0);
  });
});

describe('Kubernetes stand-in: RBAC', () => {
  it('identifies a user by token, and checks each request by verb, resource, namespace and name', async () => {
    const asked: AccessRequest[] = [];
    const kubernetes = await startKubernetes({
      tokens: { t1: 'system:serviceaccount:field:irsa' },
      rbac: (request) => {
        asked.push(request);
        return request.verb !== 'delete';
      },
    });
    const as = (token: string) => ({ authorization: `Bearer ${token}` });
    const leases = `${kubernetes.url}/apis/coordination.k8s.io/v1/namespaces/field/leases`;
    assert.equal((await call(leases, 'GET', undefined, as('unknown'))).body.reason, 'Unauthorized');
    await call(`${leases}?fieldSelector=metadata.name%3Dw`, 'GET', undefined, as('t1'));
    await call(`${kubernetes.url}/api/v1/namespaces/field/pods/p/status`, 'GET');
    const { code, body } = await call(`${leases}/w`, 'DELETE', undefined, as('t1'));
    assert.deepEqual([code, body.reason], [403, 'Forbidden']);
    assert.match(body.message ?? '', /User "system:serviceaccount:field:irsa" cannot delete resource "leases"/);
    const user = 'system:serviceaccount:field:irsa';
    const lease = { user, group: 'coordination.k8s.io', resource: 'leases', namespace: 'field', name: 'w' };
    assert.deepEqual(asked, [
      { ...lease, verb: 'list' },
      { user: 'system:anonymous', verb: 'get', group: '', resource: 'pods/status', namespace: 'field', name: 'p' },
      { ...lease, verb: 'delete' },
    ]);
    await kubernetes.close();
  });
});
