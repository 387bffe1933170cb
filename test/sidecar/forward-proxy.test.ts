/** Proves that the sidecar calls STS through a forward proxy where one is set, and nothing else. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { exchange } from '../../src/sidecar/exchange.ts';
import { parseConfig } from '../../src/sidecar/profiles.ts';
import { prove } from '../../src/sidecar/proof.ts';
import { podToken } from '../../src/sidecar/sts.ts';
import { makeCertificate } from '../stack/processes.ts';
import {
  configText,
  type Pod,
  roundsEnded,
  type Scripted,
  sessionXml,
  startPod,
  startScripted,
  tokenFile,
} from './support.ts';

interface ForwardProxy {
  url: string;
  /** Its requests, with their credentials. */
  asked: string[];
  /** The answer to CONNECT in place of a tunnel. */
  refuse: string | undefined;
  close(): Promise<void>;
}

/** Starts a forward proxy whose tunnels lead to the given port, for any name. */
async function startProxy(port: number): Promise<ForwardProxy> {
  const note = (request: IncomingMessage) =>
    proxy.asked.push(`${request.method} ${request.url} ${request.headers['proxy-authorization'] ?? '-'}`);
  const server: Server = createServer((request, response) => {
    note(request);
    response.end(sessionXml);
  });
  const open = new Set<Duplex>();
  server.on('connect', (request: IncomingMessage, socket: Duplex) => {
    note(request);
    open.add(socket);
    socket.on('error', () => undefined);
    if (proxy.refuse !== undefined) return void socket.end(`HTTP/1.1 ${proxy.refuse}\r\n\r\n`);
    const onward = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      onward.pipe(socket).pipe(onward);
    });
    open.add(onward);
    onward.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const proxy: ForwardProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    asked: [],
    refuse: undefined,
    close: () =>
      new Promise((resolve) => {
        for (const socket of open) socket.destroy();
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  return proxy;
}

describe('the forward proxy of the proof', () => {
  const name = 'sts.only-by-proxy.example';
  const pair = makeCertificate(new Date(), name);
  let pod: Pod;
  let sts: Scripted;
  let proxy: ForwardProxy;

  beforeEach(async () => {
    pod = await startPod();
    sts = await startScripted({ text: sessionXml }, pair);
    proxy = await startProxy(Number(new URL(sts.url).port));
  });
  afterEach(() => Promise.all([pod.stop(), sts.close(), proxy.close()]));

  async function problems(endpoint: string, proxyEnv: Record<string, string>) {
    let elapsed = 0;
    // One try of each hop: a wait uses up the time for the proof, and no call reaches its deadline.
    const clock: Clock = {
      now: () => 1_800_000_000_000,
      monotonic: () => elapsed,
      sleep: async (ms, signal) => {
        if (ms < 5_000) elapsed += 60_000;
        else await new Promise<void>((resolve) => signal?.addEventListener('abort', () => resolve()));
      },
    };
    const { signal } = new AbortController();
    const webIdentity = podToken(tokenFile);
    const options = { webIdentity, region: 'us-west-2', endpoint, proxyEnv, clock, random: () => 1, signal };
    return (await prove(parseConfig(configText(['acme-read'])), options)).map(({ problem }) => problem);
  }

  it('carries a call through its tunnel', async () => {
    const proxied = new URL(proxy.url);
    const call = { method: 'POST' as const, body: 'x=1', deadlineMs: 5_000, maxBytes: 1_000, clock: systemClock };
    const { signal } = new AbortController();
    const tls = { ca: pair.cert };
    const answer = await exchange({ ...call, url: `https://${name}/path`, signal, tls, proxy: proxied });
    assert.deepEqual([answer.status, answer.text], [200, sessionXml]);
    assert.deepEqual(proxy.asked, [`CONNECT ${name}:443 -`]);
    assert.deepEqual(
      sts.asked.map(({ method, path, body }) => `${method} ${path} ${body}`),
      ['POST /path x=1'],
    );
  });

  it('opens a tunnel, in which the sidecar verifies the certificate of STS', async () => {
    // The stand-in for STS has a self-signed certificate, so only the tunnel works.
    const [problem] = await problems(`https://${name}/`, { HTTPS_PROXY: proxy.url });
    assert.equal(problem?.code, 'sts_unreachable');
    assert.match(problem?.text ?? '', /DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED|UNABLE_TO_VERIFY/);
    assert.ok(proxy.asked.length > 0 && proxy.asked.every((line) => line === `CONNECT ${name}:443 -`), proxy.asked[0]);
    assert.equal(sts.asked.length, 0);
  });

  it('gets the user and password of https_proxy, and the error does not contain the password', async () => {
    const withPassword = proxy.url.replace('//', '//user:hunter%402@');
    proxy.refuse = '407 Proxy Authentication Required';
    const [problem] = await problems(`https://${name}/`, { https_proxy: withPassword });
    assert.deepEqual([problem?.hop, problem?.code], ['source', 'proxy_failed']);
    assert.match(problem?.text ?? '', /the proxy 127\.0\.0\.1:\d+ says HTTP 407/);
    assert.ok(!/hunter/.test(JSON.stringify(problem)));
    const basic = Buffer.from('user:hunter@2').toString('base64');
    assert.equal(proxy.asked[0], `CONNECT ${name}:443 Basic ${basic}`);
  });

  it('is reported as proxy_failed when it is unreachable', async () => {
    await proxy.close();
    const [problem] = await problems(`https://${name}/`, { HTTPS_PROXY: proxy.url });
    assert.equal(problem?.code, 'proxy_failed');
    assert.match(problem?.text ?? '', /the proxy 127\.0\.0\.1:\d+: ECONNREFUSED/);
  });

  it('gets the whole URL of a call over http', async () => {
    assert.deepEqual(await problems(`http://${name}/`, { HTTP_PROXY: proxy.url }), [undefined]);
    assert.deepEqual(proxy.asked, [`POST http://${name}/ -`, `POST http://${name}/ -`]);
  });

  it('is not used for hosts that NO_PROXY names', async () => {
    const [problem] = await problems(`https://${name}/`, { HTTPS_PROXY: proxy.url, NO_PROXY: 'example' });
    assert.match(problem?.text ?? '', /ENOTFOUND|EAI_AGAIN/);
    assert.deepEqual(proxy.asked, []);
  });

  it('is used for STS only, and not for the service or the token proxy', async () => {
    const environment = {
      HTTPS_PROXY: proxy.url,
      HTTP_PROXY: proxy.url,
      https_proxy: proxy.url,
      http_proxy: proxy.url,
    };
    // Then the service, and then the token proxy, have a name other than loopback.
    const sidecar = await pod.start({ ...environment, IRSA_PROVE: 'true', AWS_ENDPOINT_URL_STS: `http://${name}/` });
    await sidecar.ready;
    assert.deepEqual([pod.service.asked.length, pod.tokenProxy.asked.length], [1, 1]);
    assert.deepEqual(proxy.asked, [`POST http://${name}/ -`, `POST http://${name}/ -`]);
    const away = await pod.start({ ...environment, DOMINO_IRSA_ENDPOINT: `https://irsa-svc.invalid/map` });
    await roundsEnded(away);
    assert.equal(away.status().last_error?.code, 'service_unknown_host');
    const apart = await pod.start({ ...environment, DOMINO_API_PROXY: 'http://domino.invalid' });
    await roundsEnded(apart);
    assert.equal(apart.status().last_error?.code, 'token_proxy_unreachable');
    assert.equal(proxy.asked.length, 2);
  });
});
