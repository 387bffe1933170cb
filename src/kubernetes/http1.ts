/** Owns HTTP/1.1 to a Kubernetes API server, in clear or by way of a proxy, where HTTP/2 and its pings cannot be had. */
import { type Agent, type ClientRequest, Agent as HttpAgent, request as sendInClear } from 'node:http';
import { Agent as HttpsAgent, type RequestOptions, request as sendOverTls } from 'node:https';
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { type Answer, NoAnswerError, type Sent } from './answer.ts';

export interface Http1 {
  /** @param options TLS, and the agent where a proxy is in between. @throws NoAnswerError */
  request(sent: Sent, options: RequestOptions): Promise<Answer>;
  close(): void;
}

/** As many as HTTP/2 carries at once; more wait. */
const maxCalls = 100;
/** Idle connections end before a load balancer forgets them in silence. */
const idleMs = 4_000;
/** A slow API server must not see all watches begin anew again and again. */
const suspicionPauseMs = 15_000;

export function createHttp1(server: URL, clock: Clock): Http1 {
  const isClear = server.protocol === 'http:';
  const newAgent = (maxSockets: number): Agent => {
    const options = { keepAlive: true, maxSockets, timeout: idleMs, scheduling: 'lifo' as const };
    return isClear ? new HttpAgent(options) : new HttpsAgent(options);
  };
  const calls = newAgent(maxCalls);
  const watches = newAgent(Number.POSITIVE_INFINITY);
  /** The watches' connections. */
  const watching = new Set<Socket>();
  /** Calls under way that may be tried again, whatever became of them. */
  const repeatable = new Set<ClientRequest>();
  let suspectedAt = Number.NEGATIVE_INFINITY;

  function remember(socket: Socket, isWatch: boolean): void {
    // Where packets are dropped, TCP itself finds out within some 11 s: Node's probes come each second, ten of them.
    socket.setKeepAlive(true, 1_000);
    if (!isWatch || watching.has(socket)) return;
    watching.add(socket);
    socket.once('close', () => watching.delete(socket));
  }

  /**
   * A call had no answer in time: other connections may be dead too, and a quiet watch would not show it. Watches on which
   * nothing came since begin anew, idle connections are dropped, and so are calls that may be tried again.
   * @param before what each watch had read when the call was sent.
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
