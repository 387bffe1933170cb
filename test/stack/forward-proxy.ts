/** Owns a forward proxy (RFC 9110 section 9.3.6): CONNECT and whole URLs, for host names that only the proxy can resolve. */
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';

export interface ForwardProxy {
  readonly url: string;
  /** The requests in order: `CONNECT host:port` and `GET http://host/…`. */
  readonly seen: readonly string[];
  close(): Promise<void>;
}

/** @param targets each `host:port` that the proxy knows -> its real address, as `127.0.0.1:port`. */
export async function startForwardProxy(targets: Readonly<Record<string, string>>): Promise<ForwardProxy> {
  const seen: string[] = [];
  const place = (authority: string) => {
    const [host = '', port = ''] = (targets[authority] ?? '').split(':');
    return host === '' ? undefined : { host, port: Number(port) };
  };
  const server = createServer((asked, response) => {
    seen.push(`${asked.method} ${asked.url}`);
    forward(asked, response, place);
  });
  server.on('connect', ({ url = '' }, socket, head) => {
    seen.push(`CONNECT ${url}`);
    const to = place(url);
    if (!to) return void socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
    const upstream = connect(to, () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      upstream.write(head);
      upstream.pipe(socket).pipe(upstream);
    });
    for (const end of [socket, upstream])
      end.on('error', () => [socket, upstream].forEach((one) => void one.destroy()));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    close: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function forward(
  asked: IncomingMessage,
  response: ServerResponse,
  place: (authority: string) => { host: string; port: number } | undefined,
): void {
  const url = URL.canParse(asked.url ?? '') ? new URL(asked.url ?? '') : undefined;
  const to = url && place(`${url.hostname}:${url.port || '80'}`);
  if (!to) return void response.writeHead(502).end();
  const { method, headers } = asked;
  const sent = request({ ...to, method, path: `${url.pathname}${url.search}`, headers }, (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.pipe(response);
  });
  sent.on('error', () => response.destroy());
  asked.pipe(sent);
}
