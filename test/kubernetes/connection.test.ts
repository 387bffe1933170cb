/** Owns the tests of calls to the API server: connections that go silent, GOAWAY, and which calls are retried. */
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

it('an HTTP/2 answer that ended before it is read is read completely', async () => {
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
  describe(`calls to the API server over ${transport}`, () => {
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

    it('succeed, 150 at once, over few connections', async () => {
      const names = Array.from({ length: 150 }, (_, index) => `many-${index}`);
      await Promise.all(names.map((name) => api.call('POST', path, configMap(name))));
      assert.equal(kubernetes.list('configmaps').length, 151);
      // The first one of `http1` showed that there is no HTTP/2.
      assert.ok(kubernetes.openedConnections() <= (transport === 'h2' ? 1 : 101), 'connections');
    });

    it('continue over a new connection when all open connections go silent', async function () {
      this.timeout(30_000);
      kubernetes.knobs.silent = 'open';
      const startedAt = performance.now();
      // Over HTTP/1.1, a call that misses its deadline, such as a renewal of the lease, shows the silence.
      const short = get(2_000).catch((error: unknown) => error);
      assert.equal((await get()).metadata.name, 'one');
      await short;
      assert.equal((await get(2_000)).metadata.name, 'one');
      assert.ok(performance.now() - startedAt < 10_000, 'in time');
    });

    it('make isAnswering false after 10 s without an answer, and true again with the next answer', async function () {
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

    it('are retried while there is no connection, and fail when that lasts', async () => {
      kubernetes.knobs.down = true;
      await assert.rejects(api.call('POST', path, configMap('two')), { kind: 'unavailable' });
      const again = api.call('POST', path, configMap('two'));
      kubernetes.knobs.down = false;
      await again;
    });

    it('are retried after a 429, and then succeed', async () => {
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
  it('fails no call: unprocessed calls are sent again, and none runs twice', async function () {
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

  it('is retried when it changes nothing', async () => {
    const { api, seen, close } = await startServer(['cut', 200, 'cut', 200]);
    await api.call('GET', path);
    await api.call('POST', path, { ...configMap('one'), query: { dryRun: 'All' } });
    assert.deepEqual(seen, ['GET', 'GET', 'POST', 'POST']);
    close();
  });

  it('is not retried when it may have taken effect', async () => {
    const { api, seen, close } = await startServer(['cut']);
    await assert.rejects(api.call('POST', path, configMap('one')), { kind: 'unavailable' });
    await api.call('GET', path);
    assert.deepEqual(seen, ['POST', 'GET']);
    close();
  });

  it('is retried when a resourceVersion guards it, and a conflict of the retry counts as no answer', async () => {
    const { api, seen, close } = await startServer(['cut', 200, 'cut', 409, 409]);
    await api.call('PATCH', `${path}/one`, guarded);
    await assert.rejects(api.call('PATCH', `${path}/one`, guarded), { kind: 'unavailable' });
    await assert.rejects(api.call('PATCH', `${path}/one`, guarded), { kind: 'conflict' });
    assert.deepEqual(seen, ['PATCH', 'PATCH', 'PATCH', 'PATCH', 'PATCH']);
    close();
  });
});
