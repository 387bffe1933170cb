/** Owns the side-car's HTTP on loopback: `/healthz`, `/readyz`, `/refresh` and `/status`, in JSON for a terminal. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { http } from './builtins.ts';
import { terminalJson } from './status.ts';

/** Other pods have no business here. */
const host = '127.0.0.1';

export interface Reply {
  status: number;
  body: object;
  retryAfterSeconds?: number | undefined;
}

export interface HttpHandlers {
  ready: () => Reply;
  refresh: () => Promise<Reply>;
  status: () => Reply;
}

export interface HttpListening {
  readonly port: number;
  /** Cuts every connection. */
  close(): Promise<void>;
}

/** @param port 0 takes a free one. @throws where the port is taken. */
export async function listenHttp(port: number, handlers: HttpHandlers): Promise<HttpListening> {
  const server = http.createServer((request, response) => {
    answer(request, handlers).then(
      (reply) => send(request, response, reply),
      () => send(request, response, { status: 500, body: { error: 'The side-car failed; see its log.' } }),
    );
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer({ method = 'GET', url = '/' }: IncomingMessage, handlers: HttpHandlers): Promise<Reply> {
  const path = url.split('?')[0];
  const reads = method === 'GET' || method === 'HEAD';
  if (path === '/refresh' && (reads || method === 'POST')) return await handlers.refresh();
  if (path === '/healthz' && reads) return { status: 200, body: { status: 'Healthy' } };
  if (path === '/readyz' && reads) return handlers.ready();
  if (path === '/status' && reads) return handlers.status();
  const known = /^\/(refresh|healthz|readyz|status)$/.test(path ?? '');
  if (known) return { status: 405, body: { error: `${path} does not take ${method}` } };
  return { status: 404, body: { error: 'The side-car has /status, /refresh, /readyz and /healthz.' } };
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, retryAfterSeconds }: Reply): void {
  // Whatever was sent with the request is of no interest.
  request.resume();
  if (retryAfterSeconds !== undefined) response.setHeader('retry-after', String(Math.ceil(retryAfterSeconds)));
  if (status === 405) response.setHeader('allow', request.url?.startsWith('/refresh') ? 'GET, POST' : 'GET');
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  // v1.8's clients know the health check to the letter; the rest is laid out for people.
  response.end(request.url?.startsWith('/healthz') ? JSON.stringify(body) : terminalJson(body));
}
