/** Owns the sidecar's HTTP server on loopback: its paths answer in JSON laid out for a terminal, `/doctor` also in text. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { http } from './builtins.ts';
import { terminalJson } from './status.ts';

/** Loopback alone, so that other pods cannot connect. */
const host = '127.0.0.1';

export interface Reply {
  status: number;
  /** An object is sent as JSON, a string as it is. */
  body: object | string;
  retryAfterSeconds?: number | undefined;
}

export interface HttpHandlers {
  ready: () => Reply;
  refresh: () => Promise<Reply>;
  status: () => Reply;
  /** @param environment the output of `env`, where the request had it. */
  doctor: (asJson: boolean, environment: string | undefined) => Promise<Reply>;
  /** `/default` and the paths below it; undefined where default profiles are switched off. */
  default?:
    | ((path: string, query: URLSearchParams, authorization: string | undefined) => Reply | undefined)
    | undefined;
}

export interface HttpListening {
  readonly port: number;
  /** Closes every connection at once. */
  close(): Promise<void>;
}

/** @param port 0 takes a free one. @throws where the port is taken. */
export async function listenHttp(port: number, handlers: HttpHandlers): Promise<HttpListening> {
  const server = http.createServer((request, response) => {
    answer(request, handlers).then(
      (reply) => send(request, response, reply),
      () => send(request, response, { status: 500, body: { error: 'The sidecar failed; see its log.' } }),
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

async function answer(request: IncomingMessage, handlers: HttpHandlers): Promise<Reply> {
  const { method = 'GET', url = '/', headers } = request;
  const path = url.split('?')[0];
  const reads = method === 'GET' || method === 'HEAD';
  if (path === '/refresh' && (reads || method === 'POST')) return await handlers.refresh();
  if (path === '/healthz' && reads) return { status: 200, body: { status: 'Healthy' } };
  if (path === '/readyz' && reads) return handlers.ready();
  if (path === '/status' && reads) return handlers.status();
  if (path === '/doctor' && (reads || method === 'POST')) {
    const environment = method === 'POST' ? await readText(request) : undefined;
    return await handlers.doctor(/\bapplication\/json\b/.test(headers.accept ?? ''), environment);
  }
  const found = reads
    ? handlers.default?.(path ?? '', new URL(url, 'http://localhost').searchParams, headers.authorization)
    : undefined;
  if (found) return found;
  const known = ['/doctor', '/status', '/refresh', '/readyz', '/healthz'];
  if (handlers.default) known.unshift('/default', '/default/credentials');
  if (known.includes(path ?? '')) return { status: 405, body: { error: `${path} does not take ${method}` } };
  return { status: 404, body: { error: `The sidecar has ${known.join(', ')}.` } };
}

/** In characters: more than the AWS variables of any environment need. */
const longestBody = 64 * 1024;

/** Reads the body up to `longestBody`, and drops the rest. */
async function readText(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request.setEncoding('utf8')) {
    text += chunk;
    if (text.length > longestBody) break;
  }
  return text.slice(0, longestBody);
}

function send(request: IncomingMessage, response: ServerResponse, { status, body, retryAfterSeconds }: Reply): void {
  // The sidecar does not read the rest of the body, so the connection cannot be used again.
  if (!request.complete) response.setHeader('connection', 'close');
  if (retryAfterSeconds !== undefined) response.setHeader('retry-after', String(Math.ceil(retryAfterSeconds)));
  if (status === 405) response.setHeader('allow', /^\/(refresh|doctor)/.test(request.url ?? '') ? 'GET, POST' : 'GET');
  const type = typeof body === 'string' ? 'text/plain; charset=utf-8' : 'application/json';
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
  if (typeof body === 'string') return void response.end(body);
  // v1.8's clients expect the exact text of the health check; other answers are laid out for people.
  response.end(request.url?.startsWith('/healthz') ? JSON.stringify(body) : terminalJson(body));
}
