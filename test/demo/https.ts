/** Owns the demo's HTTP client: it uses HTTPS, and trusts only the one certificate that it is given. */
import { request } from 'node:https';

export interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}

export interface Sending {
  readonly method: string;
  /** The only trusted certificate, in PEM. */
  readonly ca: string;
  readonly token?: string | undefined;
  readonly body?: unknown;
}

/** @throws Error when there is no connection, or `ca` does not verify the certificate. */
export function send(url: string, { method, ca, token, body }: Sending): Promise<Answer> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const headers = {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    // Node does not set the length of a DELETE's body by itself.
    ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
  };
  return new Promise((resolve, reject) => {
    const sent = request(url, { method, ca, headers, agent: false }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const type = response.headers['content-type'] ?? '';
        resolve({ status: response.statusCode ?? 0, type, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    sent.on('error', reject);
    sent.end(text);
  });
}
