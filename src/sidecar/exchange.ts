/** Owns the side-car's HTTP calls: one request on a connection of its own, with a deadline, and what broke it by kind. */
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import type { ConnectionOptions } from 'node:tls';
import type { Clock } from '../clock.ts';
import { http, https } from './builtins.ts';
import { errorCode } from './failure.ts';

/** More than any AWS config file; what is longer came from somewhere else. */
const maxBytes = 1024 * 1024;

export interface Exchange {
  url: string;
  method: 'GET' | 'POST';
  headers?: Record<string, string>;
  body?: string;
  /** For everything: the name look-up, the connection, and the last byte of the answer. */
  deadlineMs: number;
  clock: Clock;
  signal: AbortSignal;
  tls?: ConnectionOptions;
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

export type BrokenKind = 'timeout' | 'unknown_host' | 'unreachable' | 'certificate' | 'tls' | 'cut' | 'too_long';

/** No answer was had. `code` is the system's (`ECONNRESET`) or OpenSSL's (`CERT_HAS_EXPIRED`). */
export class Broken extends Error {
  readonly kind: BrokenKind;
  readonly code: string;

  constructor(kind: BrokenKind, code: string, cause?: unknown) {
    super(`${kind}: ${code}`, cause === undefined ? {} : { cause });
    this.name = 'Broken';
    this.kind = kind;
    this.code = code;
  }
}

/** @throws Broken when no whole answer came. */
export async function exchange(call: Exchange): Promise<Answer> {
  const { clock, signal, deadlineMs } = call;
  const end = new AbortController();
  const overdue = new AbortController();
  const stop = AbortSignal.any([signal, overdue.signal]);
  void clock.sleep(deadlineMs, end.signal).then(() => end.signal.aborted || overdue.abort());
  try {
    return await send(call, stop);
  } catch (error) {
    if (overdue.signal.aborted) throw new Broken('timeout', `no answer within ${Math.round(deadlineMs / 1000)} s`);
    throw error instanceof Broken ? error : broken(error);
  } finally {
    end.abort();
  }
}

function send({ url, method, headers = {}, body, tls }: Exchange, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(new Broken('cut', 'stopped'));
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const options: RequestOptions = { method, signal, agent: false, headers: { ...headers, ...length } };
    const answered = (response: IncomingMessage) => {
      response.setEncoding('utf8');
      let text = '';
      response.on('data', (chunk: string) => {
        text += chunk;
        if (text.length > maxBytes) request.destroy(new Broken('too_long', `more than ${maxBytes} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
    };
    const request = url.startsWith('https:')
      ? https.request(url, { ...options, ...tls }, answered)
      : http.request(url, options, answered);
    request.on('error', reject);
    request.end(body);
  });
}

function broken(error: unknown): Broken {
  const code = errorCode(error);
  return new Broken(kindOf(code), code, error);
}

/** OpenSSL's names: https://nodejs.org/api/tls.html#x509-certificate-error-codes */
function kindOf(code: string): BrokenKind {
  if (/^(CERT_|CRL_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|INVALID_|HOSTNAME|ERR_TLS_CERT|ERROR_IN_)/.test(code)) {
    return 'certificate';
  }
  if (/^(ERR_SSL|ERR_TLS|ERR_OSSL|EPROTO)/.test(code)) return 'tls';
  if (/^(ENOTFOUND|EAI_)/.test(code)) return 'unknown_host';
  if (/^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|ENETDOWN)$/.test(code)) return 'unreachable';
  return code === 'ETIMEDOUT' ? 'timeout' : 'cut';
}
