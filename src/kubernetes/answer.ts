/** Owns what is sent to the Kubernetes API server and comes back, whichever version of HTTP carries it. */
import type { Readable } from 'node:stream';

export interface Sent {
  method: string;
  /** With the query. */
  path: string;
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>;
  body: string | undefined;
  /** Ends the request, also while its answer is read. */
  signal: AbortSignal;
  /** The answer goes on for as long as it may. */
  isWatch: boolean;
  /** It changes nothing, or cannot take effect twice. */
  canRunTwice: boolean;
}

export interface Answer {
  status: number;
  /** The header as it came. */
  retryAfter: string | undefined;
  body: Readable;
}

/**
 * Reads an answer to its end. Not by an iterator, as `node:stream/consumers` does: to that, an HTTP/2 stream that the server
 * has closed is broken off, although its body waits to be read. As text from the first chunk on: the buffers of a list of 10,000
 * pods, kept and copied, cost 50 MiB that the process never gave back. @throws Error where the body does break off.
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
 * What became of a request without an answer. `unsent`: there was no connection. `refused`: the API server said that it did
 * not look at it. `lost`: it may have acted on it.
 */
export type Fate = 'unsent' | 'refused' | 'lost';

/** No answer came. */
export class NoAnswerError extends Error {
  readonly fate: Fate;

  constructor(fate: Fate, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = 'NoAnswerError';
    this.fate = fate;
  }
}
