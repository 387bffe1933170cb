/** Owns the benchmark's two HTTP clients: a plain POST, and connections that repeat one request. */
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { RateResult } from './load.ts';

const agent = new Agent({ keepAlive: true });

/** @param timeoutMs for the whole answer. @throws Error where there is none by then. */
export function post(
  url: string,
  body: unknown,
  headers: Record<string, string> = {},
  timeoutMs = 60_000,
): Promise<{ status: number; text: string }> {
  const signal = AbortSignal.timeout(timeoutMs);
  return new Promise((resolve, reject) => {
    const sent = request(
      url,
      { agent, method: 'POST', headers: { ...headers, 'content-type': 'application/json' }, signal },
      (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        response.on('error', reject);
      },
    );
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

/**
 * Asks over bare sockets, since an HTTP client costs about as much as the server that is measured.
 * @throws Error at the first answer that is no 200.
 */
export async function keepAsking(job: {
  url: string;
  token: string;
  connections: number;
  seconds: number;
}): Promise<RateResult> {
  const { hostname, port, pathname, host } = new URL(job.url);
  const asked = Buffer.from(`GET ${pathname} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${job.token}\r\n\r\n`);
  let requests = 0;
  let failure: string | undefined;
  const sockets = Array.from({ length: job.connections }, () => {
    const socket = connect(Number(port), hostname, () => socket.write(asked));
    let received = '';
    socket.setNoDelay(true).setEncoding('latin1');
    socket.on('data', (chunk: string) => {
      received += chunk;
      const head = received.indexOf('\r\n\r\n');
      const length = /\r\ncontent-length: (\d+)/i.exec(received)?.[1];
      if (head < 0 || received.length < head + 4 + Number(length ?? Number.NaN)) return;
      if (!received.startsWith('HTTP/1.1 200 ') || length === undefined) failure ??= received.slice(0, 300);
      received = '';
      requests += 1;
      socket.write(asked);
    });
    socket.on('error', (error) => {
      failure ??= String(error);
    });
    return socket;
  });
  const start = performance.now();
  await delay(job.seconds * 1000);
  const perSecond = requests / ((performance.now() - start) / 1000);
  for (const socket of sockets) socket.destroy();
  if (failure !== undefined) throw new Error(`${job.url}: ${failure}`);
  return { perSecond, requests };
}
