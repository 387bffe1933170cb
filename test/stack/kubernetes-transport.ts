/** Owns the transports of the Kubernetes stand-in: TLS with HTTP/2, as a real API server has, TLS with HTTP/1.1, or no TLS. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createSecureServer } from 'node:http2';
import { createServer as createHttp1Server } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { makeCertificate } from './certificates.ts';
import { startTcpGate, type TcpGate } from './tcp-gate.ts';

type RequestListener = (request: IncomingMessage, response: ServerResponse) => void;

export type Transport = 'h2' | 'http1' | 'plain';

export interface KubernetesTransport {
  /** The address for clients: `https://127.0.0.1:<port>`. */
  readonly url: string;
  /** The CA in PEM; undefined without TLS. */
  readonly ca: string | undefined;
  readonly gate: TcpGate;
  close(): Promise<void>;
}

/** Taken from the environment, so that the suite can run on each transport. */
export function defaultTransport(): Transport {
  const wanted = process.env.KUBERNETES_STAND_IN ?? 'h2';
  if (wanted === 'h2' || wanted === 'http1' || wanted === 'plain') return wanted;
  throw new Error(`KUBERNETES_STAND_IN is h2, http1 or plain, and not ${wanted}`);
}

/** @param plainPort the port of the server without TLS, which takes orders with any transport. */
export async function startTransport(
  transport: Transport,
  plainPort: number,
  handle: (request: IncomingMessage, response: ServerResponse) => Promise<void>,
  onSocket: (socket: Socket) => void,
): Promise<KubernetesTransport> {
  if (transport === 'plain') {
    const gate = await startTcpGate(plainPort);
    return { url: `http://127.0.0.1:${gate.port}`, ca: undefined, gate, close: () => gate.close() };
  }
  const pair = makeCertificate();
  const listener = (request: IncomingMessage, response: ServerResponse) => {
    // The client aborted the request.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    handle(request, response).catch((error: unknown) => {
      response.statusCode = 500;
      response.end(`stand-in failed: ${error instanceof Error ? error.stack : String(error)}`);
    });
  };
  const sockets = new Set<Socket>();
  const server = transport === 'h2' ? createHttp2Server(pair, listener) : createHttp1Server(pair, listener);
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const gate = await startTcpGate((server.address() as AddressInfo).port);
  return {
    url: `https://127.0.0.1:${gate.port}`,
    ca: pair.cert,
    gate,
    close: async () => {
      await gate.close();
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

function createHttp2Server(pair: { cert: string; key: string }, listener: RequestListener) {
  // The real one's default.
  const settings = { maxConcurrentStreams: 250 };
  const server = createSecureServer({ ...pair, allowHTTP1: true, settings });
  server.on('session', (session) => session.on('error', () => undefined));
  server.on('sessionError', () => undefined);
  // Node's HTTP/2 offers the interface of its HTTP/1.1, and has types of its own for it.
  server.on('request', (request, response) =>
    listener(request as unknown as IncomingMessage, response as unknown as ServerResponse),
  );
  return server;
}
