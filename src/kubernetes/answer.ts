/** Owns the requests to the Kubernetes API server and its answers, in a form that both versions of HTTP share. */
import type { Readable } from 'node:stream';

export interface Sent {
  method: string;
  /** With the query. */
  path: string;
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>;
  body: string | undefined;
  /** Aborts the request, also while its answer is read. */
  signal: AbortSignal;
  /** Whether the answer is a watch, which does not end by itself. */
  isWatch: boolean;
  /** Whether a retry is safe: the request changes nothing, or cannot take effect twice. */
  canRunTwice: boolean;
}

export interface Answer {
  status: number;
  /** The raw header. */
  retryAfter: string | undefined;
  body: Readable;
}

/**
 * Reads an answer to its end. It uses no iterator, unlike `node:stream/consumers`: an iterator fails on an HTTP/2
 * stream that the server has closed, although its body can still be read. It decodes each chunk at once: keeping and
 * copying the buffers of a list of 10,000 pods cost 50 MiB that the process never gave back.
 * @throws Error where the body breaks off.
 */
export function textOf(body: Readable): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    body.setEncoding('utf8');
    body.on('data', (chunk: string) => {
      text += chunk;
    });
    body.once('end', () => resolve(text));
    body.once('error', reject);
    body.once('close', () => reject(new Error('the body broke off')));
    body.resume();
  });
}

/**
 * What happened to a request without an answer. `unsent`: there was no connection. `refused`: the API server said that
 * it did not process the request. `lost`: the API server may have processed it.
 */
export type Fate = 'unsent' | 'refused' | 'lost';

/** The request had no answer. */
export class NoAnswerError extends Error {
  readonly fate: Fate;

  constructor(fate: Fate, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = 'NoAnswerError';
    this.fate = fate;
  }
}
