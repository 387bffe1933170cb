/** Owns request bodies: reads them only for authorized callers, up to the call's limit, and closes after a longer one. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Request, RequestHandler, Response } from 'express';
import { ApiError, type FieldError } from '../lib/errors.ts';
import type { Call } from './contract.ts';

/** RFC 8259 section 8.1: JSON between systems is UTF-8. The length bounds what a header of odd parameters costs. */
const jsonType = /^application\/json *(; *charset="?utf-8"? *;? *)?$/i;
const longestType = 100;

/**
 * The largest valid request, a hundred mappings, has some 500 values. The contract check reports all wrong fields at
 * once, and this bounds its cost: 240 KiB of empty objects would take 16 ms and 5 MB to parse, and much more to check.
 */
const maxValues = 2000;

/** How long, and how much, a client may go on sending while it reads an early answer; then the connection is cut. */
const lingerMs = 2_000;
const lingerBytes = 2 * 1024 * 1024;

/** Parses the body of a call that has one. @param callOf returns the call that `findCall` found. */
export function readBody(callOf: (res: Response) => Call): RequestHandler {
  return async (req, res, next) => {
    const { maxBodyBytes } = callOf(res);
    const { 'content-type': type, expect } = req.headers;
    if (maxBodyBytes === 0) {
      next();
      return;
    }
    if (!hasBody(req)) throw invalid('This call needs a JSON body.', { path: '/body', message: 'missing' });
    if (type === undefined || type.length > longestType || !jsonType.test(type)) {
      throw new ApiError('unsupported_media_type', 'The body must be application/json, in UTF-8.');
    }
    if ((req.headers['content-encoding'] ?? 'identity') !== 'identity') {
      throw new ApiError('unsupported_media_type', 'The body must be sent as it is, without a Content-Encoding.');
    }
    if (Number(req.headers['content-length'] ?? 0) > maxBodyBytes) throw tooLarge(maxBodyBytes);
    if (expect !== undefined) res.writeContinue();
    // The contract's validator caches a compiled check for each spelling of the content type.
    req.headers['content-type'] = 'application/json';
    req.body = parse(await bytesOf(req, maxBodyBytes));
    next();
  };
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

function invalid(message: string, error: FieldError): ApiError {
  return new ApiError('invalid_request', message, { errors: [error] });
}

function tooLarge(limit: number): ApiError {
  return new ApiError('payload_too_large', `The body is larger than the ${limit} bytes that this call takes.`);
}

function parse(bytes: Buffer): unknown {
  if (!isModest(bytes)) {
    const message = `must NOT have more than ${maxValues} values`;
    throw invalid('The body holds more than any valid request; see /docs.', { path: '/body', message });
  }
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    throw invalid('The body is not valid JSON.', { path: '/body', message: 'not JSON' });
  }
}

/** Whether the JSON has at most `maxValues` values. It counts them without parsing, and stops at the first too many. */
function isModest(bytes: Buffer): boolean {
  const [quote, backslash, ...openers] = Buffer.from('"\\,[{');
  let values = 1;
  let isQuoted = false;
  for (let at = 0; at < bytes.length && values <= maxValues; at += 1) {
    const byte = bytes[at] ?? 0;
    if (byte === quote) isQuoted = !isQuoted;
    else if (isQuoted) at += byte === backslash ? 1 : 0;
    else if (openers.includes(byte)) values += 1;
  }
  return values <= maxValues;
}

/** @throws ApiError `payload_too_large` as soon as the body exceeds the limit; the rest stays unread. */
function bytesOf(req: Request, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > limit) stop(() => reject(tooLarge(limit)));
      else chunks.push(chunk);
    };
    const done = () => stop(() => resolve(Buffer.concat(chunks)));
    const cut = () => stop(() => reject(invalid('The body ended early.', { path: '/body', message: 'not whole' })));
    const stop = (settle: () => void) => {
      req.off('data', take).off('end', done).off('close', cut).pause();
      settle();
    };
    // A broken connection emits an error and then `close`, which settles this.
    req.on('error', () => undefined);
    req.on('data', take).on('end', done).on('close', cut);
  });
}

/**
 * Closes the connection after an answer that comes before the body was read. Otherwise Node would read the whole body,
 * however long, to keep the connection alive.
 */
export function closeIfUnread(req: IncomingMessage, res: ServerResponse): void {
  if (!hasBody(req) || req.complete || res.headersSent) return;
  res.setHeader('Connection', 'close');
  let left = lingerBytes;
  req.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) req.socket.destroy();
  });
  res.once('finish', () => req.resume());
  // Node destroys the socket after the answer. A client that still sends would get a reset and lose the answer.
  req.socket.destroySoon = () => lingeringClose(req.socket);
}

/** Ends our side of the connection, and cuts it where the client has not ended its side after `lingerMs`. */
export function lingeringClose(socket: Pick<Socket, 'end' | 'destroy' | 'once'>): void {
  socket.end();
  const cut = setTimeout(() => socket.destroy(), lingerMs);
  socket.once('close', () => clearTimeout(cut));
}
