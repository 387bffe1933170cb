/** Owns the tests of how the API server is reached: connections that go silent, GOAWAY, and what is tried again. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { ClientHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { textOf } from '../../src/kubernetes/answer.ts';
import { createKubernetesConnection } from '../../src/kubernetes/connection.ts';
import { createKubernetesApi, type KubernetesApi } from '../../src/kubernetes/transport.ts';
import { type KubernetesStandIn, startKubernetes } from '../stack/kubernetes.ts';
import type { Transport } from '../stack/kubernetes-transport.ts';
import { ShiftedClock, until } from '../support/clock.ts';

const path = '/api/v1/namespaces/default/configmaps';
const configMap = (name: string, more = {}) => ({
  body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, ...more } },
});
interface Stored {
  metadata: { name: string; resourceVersion: string };
}

function connect(kubeconfig: string, clock = new ShiftedClock()): KubernetesApi {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  return createKubernetesApi(config, clock);
}

it('an answer over HTTP/2 that is over before it is read is there, whole', async () => {
  const kubernetes = await startKubernetes({ transport: 'h2' });
  const config = new KubeConfig();
  config.loadFromString(kubernetes.kubeconfig());
  const connection = createKubernetesConnection(config, new ShiftedClock());
  try {
    const body = JSON.stringify(configMap('late', { annotations: { long: 'x'.repeat(3_000) } }).body);
    const headers = { 'content-type': 'application/json' };
    const { signal } = new AbortController();
    const sent = { method: 'POST', path, headers, body, signal, isWatch: false, canRunTwice: false };
    const answer = await connection.send(sent);
    await until(() => (answer.body as ClientHttp2Stream).closed);
    assert.equal((JSON.parse(await textOf(answer.body)) as Stored).metadata.name, 'late');
  } finally {
    connection.close();
    await kubernetes.close();
  }
});

for (const transport of ['h2', 'http1', 'plain'] satisfies Transport[]) {
  describe(`the API server by ${transport}`, () => {
    let kubernetes: KubernetesStandIn;
    let clock: ShiftedClock;
    let api: KubernetesApi;

    beforeEach(async () => {
      kubernetes = await startKubernetes({ transport });
      clock = new ShiftedClock();
      api = connect(kubernetes.kubeconfig(), clock);
      await api.call('POST', path, configMap('one'));
    });
    afterEach(async () => {
      api.close();
      await kubernetes.close();
    });

    const get = (deadlineMs = 10_000) => api.call<Stored>('GET', `${path}/one`, { deadlineMs });

    it('answers many calls at once', async () => {
      const names = Array.from({ length: 150 }, (_, index) => `many-${index}`);
      await Promise.all(names.map((name) => api.call('POST', path, configMap(name))));
      assert.equal(kubernetes.list('configmaps').length, 151);
      // The first one of `http1` showed that there is no HTTP/2.
      assert.ok(kubernetes.openedConnections() <= (transport === 'h2' ? 1 : 101), 'connections');
    });

    it('is called again over a new connection when all that are open went silent', async function () {
      this.timeout(30_000);
      kubernetes.knobs.silent = 'open';
      const startedAt = performance.now();
      // What waits shows it: over HTTP/1.1, by the deadline of a call such as the renewal of a lease.
      const short = get(2_000).catch((error: unknown) => error);
      assert.equal((await get()).metadata.name, 'one');
      await short;
      assert.equal((await get(2_000)).metadata.name, 'one');
      assert.ok(performance.now() - startedAt < 10_000, 'in time');
    });

    it('says when it does not answer, and when it does again', async function () {
      this.timeout(30_000);
      assert.equal(api.isAnswering(), true);
      kubernetes.knobs.silent = 'all';
      await assert.rejects(get(300), { kind: 'unavailable' });
      clock.skip(9_000);
      assert.equal(api.isAnswering(), true);
      clock.skip(1_001);
      assert.equal(api.isAnswering(), false);
      kubernetes.knobs.silent = 'none';
      assert.equal((await get()).metadata.name, 'one');
      assert.equal(api.isAnswering(), true);
    });

    it('is tried again where there was no connection, and not for long', async () => {
      kubernetes.knobs.down = true;
      await assert.rejects(api.call('POST', path, configMap('two')), { kind: 'unavailable' });
      const again = api.call('POST', path, configMap('two'));
      kubernetes.knobs.down = false;
      await again;
    });

    it('is asked later when it asks for patience, and the call does not fail', async () => {
      kubernetes.knobs.failRate = 1;
      kubernetes.knobs.failStatus = 429;
      const made = api.call('POST', path, configMap('two'));
      await until(() => kubernetes.calls.get('create configmaps') === 2);
      kubernetes.knobs.failRate = 0;
      await made;
    });
  });
}

describe('GOAWAY', () => {
  it('fails no call: what the API server had not seen is sent again, and nothing runs twice', async function () {
    this.timeout(60_000);
    const kubernetes = await startKubernetes({ transport: 'h2' });
    const api = connect(kubernetes.kubeconfig());
    kubernetes.knobs.goawayChance = 0.05;
    const people = Array.from({ length: 100 }, (_, index) => index);
    // A second creation of a name would be refused with 409.
    await Promise.all(
      people.map(async (person) => {
        for (let time = 0; time < 8; time += 1) await api.call('POST', path, configMap(`m-${person}-${time}`));
      }),
    );
    assert.equal(kubernetes.list('configmaps').length, 800);
    assert.ok(kubernetes.openedConnections() > 3, 'connections were ended');
    api.close();
    await kubernetes.close();
  });
});

describe('a call whose answer is lost', () => {
  /** Answers what is queued, `cut` breaks the connection after the request came in whole. */
  async function startServer(answers: ('cut' | number)[]) {
    const seen: string[] = [];
    const server = createServer((request: IncomingMessage, response: ServerResponse) => {
      request.resume().on('end', () => {
        seen.push(request.method ?? '');
        const next = answers.shift() ?? 200;
        if (next === 'cut') request.socket.destroy();
        else response.writeHead(next, { 'content-type': 'application/json' }).end('{"metadata":{}}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const cluster = {
      server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      'insecure-skip-tls-verify': true,
    };
    const kubeconfig = {
      clusters: [{ name: 'a', cluster }],
      users: [{ name: 'a', user: {} }],
      contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
      'current-context': 'a',
    };
    const api = connect(JSON.stringify(kubeconfig));
    const close = () => {
      api.close();
      server.close();
      server.closeAllConnections();
    };
    return { api, seen, close };
  }
  const guarded = configMap('one', { resourceVersion: '5' });

  it('is made again when it changes nothing', async () => {
    const { api, seen, close } = await startServer(['cut', 200, 'cut', 200]);
    await api.call('GET', path);
    await api.call('POST', path, { ...configMap('one'), query: { dryRun: 'All' } });
    assert.deepEqual(seen, ['GET', 'GET', 'POST', 'POST']);
    close();
  });

  it('is not when it may have run, and would run twice', async () => {
    const { api, seen, close } = await startServer(['cut']);
    await assert.rejects(api.call('POST', path, configMap('one')), { kind: 'unavailable' });
    await api.call('GET', path);
    assert.deepEqual(seen, ['POST', 'GET']);
    close();
  });

  it('is made again when a resourceVersion guards it, and a conflict then is no answer', async () => {
    const { api, seen, close } = await startServer(['cut', 200, 'cut', 409, 409]);
    await api.call('PATCH', `${path}/one`, guarded);
    await assert.rejects(api.call('PATCH', `${path}/one`, guarded), { kind: 'unavailable' });
    await assert.rejects(api.call('PATCH', `${path}/one`, guarded), { kind: 'conflict' });
    assert.deepEqual(seen, ['PATCH', 'PATCH', 'PATCH', 'PATCH', 'PATCH']);
    close();
  });
});
