/** Owns the connection to the Kubernetes API server: one HTTP/2 connection, reopened when it is lost, or HTTP/1.1. */
import type { RequestOptions } from 'node:https';
import { isIP } from 'node:net';
import { connect, type TLSSocket } from 'node:tls';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Clock } from '../lib/clock.ts';
import { type Answer, NoAnswerError, type Sent } from './answer.ts';
import { createHttp1 } from './http1.ts';
import { type Http2Connection, openHttp2 } from './http2.ts';

export interface KubernetesConnection {
  /** Adds our credentials, and sends. @throws NoAnswerError */
  send(sent: Sent): Promise<Answer>;
  /** False when requests have gone without an answer for `silentMs`. */
  isAnswering(): boolean;
  close(): void;
}

/** Short, since a retry may reach another one of several API servers behind the address. */
const connectMs = 3_000;
const silentMs = 10_000;

export function createKubernetesConnection(kubeConfig: KubeConfig, clock: Clock): KubernetesConnection {
  const cluster = kubeConfig.getCurrentCluster();
  if (!cluster?.server) throw new Error('the Kubernetes configuration names no cluster');
  const server = new URL(cluster.server);
  const prefix = server.pathname.replace(/\/$/, '');
  const http1 = createHttp1(server, clock);
  let speaksHttp2 = server.protocol === 'https:' && cluster.proxyUrl === undefined;
  const open = new Set<Http2Connection>();
  let current: Http2Connection | undefined;
  let opening: Promise<Http2Connection | undefined> | undefined;
  let isClosed = false;
  /** Since when requests have failed; undefined after one that was answered. */
  let owedSince: number | undefined;

  /** @returns undefined where the server speaks only HTTP/1.1. */
  async function connectHttp2(tls: RequestOptions): Promise<Http2Connection | undefined> {
    const socket = await connectTls(server, tls);
    speaksHttp2 = socket.alpnProtocol === 'h2';
    if (!speaksHttp2 || isClosed) {
      socket.destroy();
      return undefined;
    }
    const made = openHttp2(socket, server, clock);
    open.add(made);
    socket.once('close', () => open.delete(made));
    current = made;
    return made;
  }

  async function http2(tls: RequestOptions): Promise<Http2Connection | undefined> {
    if (current?.isOpen()) return current;
    opening ??= connectHttp2(tls).finally(() => {
      opening = undefined;
    });
    return opening;
  }

  async function sendOn(sent: Sent): Promise<Answer> {
    const { agent, auth, headers, ...tls }: RequestOptions = await credentials(kubeConfig);
    const basic = auth ? { authorization: `Basic ${Buffer.from(auth).toString('base64')}` } : {};
    const ours = Object.entries((headers ?? {}) as Record<string, string>);
    const more = Object.fromEntries(ours.map(([name, value]) => [name.toLowerCase(), value]));
    const whole = { ...sent, path: prefix + sent.path, headers: { ...sent.headers, ...basic, ...more } };
    if (speaksHttp2) {
      const connection = await untilAborted(http2(tls), sent.signal);
      if (connection) return connection.request(whole);
    }
    // The client library's agent is used only for a proxy: its other agents open a connection for each call.
    return http1.request(whole, cluster?.proxyUrl === undefined ? tls : { ...tls, agent });
  }

  return {
    send: async (sent) => {
      const sentAt = clock.monotonic();
      try {
        const answer = await sendOn(sent);
        owedSince = undefined;
        return answer;
      } catch (error) {
        const isLate = sent.signal.reason instanceof DOMException && sent.signal.reason.name === 'TimeoutError';
        if (!sent.signal.aborted || isLate) owedSince ??= sentAt;
        throw error;
      }
    },
    isAnswering: () => owedSince === undefined || clock.monotonic() - owedSince < silentMs,
    close: () => {
      isClosed = true;
      for (const connection of open) connection.close();
      http1.close();
    },
  };
}

/** Reads the credentials for each request, since tokens and certificates are rotated. @throws NoAnswerError */
async function credentials(kubeConfig: KubeConfig): Promise<RequestOptions> {
  const options: RequestOptions = {};
  try {
    await kubeConfig.applyToHTTPSOptions(options);
    return options;
  } catch (cause) {
    throw new NoAnswerError('unsent', cause);
  }
}

function connectTls(server: URL, tls: RequestOptions): Promise<TLSSocket> {
  const { ca, cert, key, pfx, passphrase, rejectUnauthorized, servername } = tls;
  const host = server.hostname.replace(/^\[|\]$/g, '');
  // An option that is present and undefined would replace Node's default.
  const given = Object.entries({ ca, cert, key, pfx, passphrase, rejectUnauthorized, servername });
  const socket = connect({
    host,
    port: Number(server.port || 443),
    ALPNProtocols: ['h2', 'http/1.1'],
    ...(isIP(host) ? {} : { servername: host }),
    ...Object.fromEntries(given.filter(([, value]) => value !== undefined)),
  });
  return new Promise((resolve, reject) => {
    const fail = (cause: unknown) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new NoAnswerError('unsent', cause));
    };
    const closed = () => fail(new Error('the connection was closed'));
    const timer = setTimeout(() => fail(new Error(`no connection within ${connectMs} ms`)), connectMs);
    socket.once('error', fail);
    socket.once('close', closed);
    socket.once('secureConnect', () => {
      clearTimeout(timer);
      socket.off('error', fail);
      socket.off('close', closed);
      resolve(socket);
    });
  });
}

/** Stops waiting when `signal` is aborted. The promise goes on, since other requests wait for the same connection. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const gaveUp = Promise.withResolvers<never>();
  const giveUp = () => gaveUp.reject(new NoAnswerError('unsent', signal.reason));
  if (signal.aborted) giveUp();
  signal.addEventListener('abort', giveUp, { once: true });
  try {
    return await Promise.race([promise, gaveUp.promise]);
  } finally {
    signal.removeEventListener('abort', giveUp);
  }
}
