/** Owns one HTTP call to a replica, with or without TLS, on a connection of its own. */
import { request as requestInClear } from 'node:http';
import { request as requestOverTls } from 'node:https';
import { connect } from 'node:tls';

export interface Called {
  status: number;
  text: string;
}

export interface CallOptions {
  method?: 'POST' | 'DELETE';
  token: string;
  body: object;
  /** Certificates to trust, PEM. */
  cas: readonly string[];
  timeoutMs: number;
}

/** @throws Error where the connection breaks or the deadline passes. */
export function callReplica(url: string, path: string, options: CallOptions): Promise<Called> {
  const { method = 'POST', token, body, cas, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const text = JSON.stringify(body);
    const headers = {
      'content-type': 'application/json',
      // Node does not set the length of a DELETE's body by itself.
      'content-length': String(Buffer.byteLength(text)),
      authorization: `Bearer ${token}`,
    };
    const send = url.startsWith('https:') ? requestOverTls : requestInClear;
    const sent = send(url + path, { method, headers, agent: false, ca: [...cas] }, (response) => {
      let answer = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        answer += chunk;
      });
      response.on('end', () => finish(() => resolve({ status: response.statusCode ?? 0, text: answer })));
      response.on('error', (error) => finish(() => reject(error)));
    });
    const timer = setTimeout(() => sent.destroy(new Error(`no answer in ${timeoutMs} ms`)), timeoutMs);
    const finish = (then: () => void) => {
      clearTimeout(timer);
      then();
    };
    sent.on('error', (error) => finish(() => reject(error)));
    sent.on('close', () => finish(() => reject(new Error('the connection was closed'))));
    sent.end(text);
  });
}

/** The certificate that a replica shows now: its SHA-256. @throws Error where there is no connection. */
export function shownCertificate(url: string, cas: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', { ca: [...cas] }, () => {
      resolve(socket.getPeerCertificate().fingerprint256 ?? '');
      socket.end();
    });
    socket.on('error', reject);
  });
}

/** Proxy roles by target role, as an AWS config text names them. */
export function profilesOf(config: string): { target: string; proxy: string }[] {
  const roleOf = new Map<string, string>();
  for (const block of config.split(/^(?=\[profile )/m)) {
    const name = /^\[profile (.+)\]$/m.exec(block)?.[1];
    const role = /^role_arn = (.+)$/m.exec(block)?.[1];
    if (name !== undefined && role !== undefined) roleOf.set(name, role);
  }
  const names = [...roleOf.keys()].filter((name) => roleOf.has(`src_${name}`));
  return names.map((name) => ({ target: roleOf.get(name) ?? '', proxy: roleOf.get(`src_${name}`) ?? '' }));
}
