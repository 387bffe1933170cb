/** Owns a relay that adds TLS to a plain server, and records when each answer was complete. */
import { request as ask, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { readBody } from '../stack/server.ts';

export interface Relay {
  /** `https://localhost:<port>` */
  readonly url: string;
  /** Monotonic milliseconds at which the plain server's newest 200 was complete. */
  readonly answeredAt: number | undefined;
  close(): void;
}

export async function startRelay(target: string, pair: { cert: string; key: string }): Promise<Relay> {
  let answeredAt: number | undefined;
  const relay = async (request: IncomingMessage, response: ServerResponse) => {
    const body = await readBody(request);
    const { method, url = '/', headers } = request;
    const sent = ask(new URL(url, target), { method, headers }, async (answer) => {
      const text = await readBody(answer);
      if (answer.statusCode === 200) answeredAt = performance.now();
      response.writeHead(answer.statusCode ?? 502, answer.headers).end(text);
    });
    sent.on('error', () => response.destroy());
    sent.end(body);
  };
  const server = createServer(pair, (request, response) => void relay(request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `https://localhost:${(server.address() as AddressInfo).port}`,
    get answeredAt() {
      return answeredAt;
    },
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
