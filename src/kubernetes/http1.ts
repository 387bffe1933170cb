/** Owns HTTP/1.1 to a Kubernetes API server, for plain HTTP, proxies, and servers without HTTP/2 and its pings. */
import { type Agent, type ClientRequest, Agent as HttpAgent, request as sendInClear } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions, request as sendOverTls } from 'node:https';
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { type Answer, NoAnswerError, type Sent } from './answer.ts';

export interface Http1 {
  /** @param options the TLS options, and the agent where there is a proxy. @throws NoAnswerError */
  request(sent: Sent, options: RequestOptions): Promise<Answer>;
  close(): void;
}

/** As many as HTTP/2 has at once; further calls wait. */
const maxCalls = 100;
/** Idle connections close before a load balancer drops them silently. */
const idleMs = 4_000;
/** A slow API server must not make all watches restart over and over. */
const suspicionPauseMs = 15_000;

export function createHttp1(server: URL, clock: Clock): Http1 {
  const isClear = server.protocol === 'http:';
  const newAgent = (maxSockets: number): Agent => {
    const options = { keepAlive: true, maxSockets, timeout: idleMs, scheduling: 'lifo' as const };
    return isClear ? new HttpAgent(options) : new HttpsAgent(options);
  };
  const calls = newAgent(maxCalls);
  const watches = newAgent(Number.POSITIVE_INFINITY);
  /** The connections of watches. */
  const watching = new Set<Socket>();
  /** Calls in flight whose retry is safe. */
  const repeatable = new Set<ClientRequest>();
  let suspectedAt = Number.NEGATIVE_INFINITY;

  function remember(socket: Socket, isWatch: boolean): void {
    // Where packets are dropped, TCP notices within some 11 s: Node sends ten probes, one each second.
    socket.setKeepAlive(true, 1_000);
    if (!isWatch || watching.has(socket)) return;
    watching.add(socket);
    socket.once('close', () => watching.delete(socket));
  }

  /**
   * Call it when a call timed out: other connections may be dead too, and a quiet watch would not show it. It ends
   * watches that have received nothing since the call, idle connections, and calls whose retry is safe.
   * @param before the bytes that each watch had read when the call was sent.
   */
  function suspectQuiet(before: ReadonlyMap<Socket, number>): void {
    if (clock.monotonic() - suspectedAt < suspicionPauseMs) return;
    suspectedAt = clock.monotonic();
    for (const [socket, read] of before) if (socket.bytesRead === read) socket.destroy();
    for (const socket of Object.values(calls.freeSockets).flat()) socket?.destroy();
    for (const call of repeatable) call.destroy(new Error('the connection is silent'));
  }

  function request(sent: Sent, options: RequestOptions): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const { method, path, headers, body, signal, isWatch } = sent;
      const { hostname, port } = server;
      const agent = options.agent ?? (isWatch ? watches : calls);
      const host = hostname.replace(/^\[|\]$/g, '');
      const length = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
      const before = new Map([...watching].map((socket) => [socket, socket.bytesRead]));
      let isSent = false;
      const send = isClear ? sendInClear : sendOverTls;
      const call = send({ ...options, agent, host, port, method, path, headers: { ...headers, ...length }, signal });
      if (sent.canRunTwice && !isWatch) repeatable.add(call);
      call.once('close', () => repeatable.delete(call));
      call.once('socket', (socket) => {
        remember(socket, isWatch);
        if (!socket.connecting) isSent = true;
        else socket.once(isClear ? 'connect' : 'secureConnect', () => (isSent = true));
      });
      call.once('response', (response) => {
        resolve({ status: response.statusCode ?? 0, retryAfter: response.headers['retry-after'], body: response });
      });
      call.on('error', (cause) => {
        const isLate = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
        if (isLate) suspectQuiet(before);
        reject(new NoAnswerError(isSent ? 'lost' : 'unsent', cause));
      });
      call.end(body);
    });
  }

  return {
    request,
    close: () => {
      calls.destroy();
      watches.destroy();
    },
  };
}
