/** Owns the sidecar's HTTP calls: sends one request on a connection of its own, with a deadline, and classifies failures. */
import type { IncomingHttpHeaders, IncomingMessage, RequestOptions } from 'node:http';
import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import type { Clock } from '../lib/clock.ts';
import { Broken, broken } from './broken.ts';
import { http, https } from './builtins.ts';
import { openTunnel, proxyBroken, throughProxy } from './tunnel.ts';

export interface Exchange {
  url: string;
  method: 'GET' | 'POST';
  headers?: Record<string, string>;
  body?: string;
  /** Covers everything: the name look-up, the connection, and the last byte of the answer. */
  deadlineMs: number;
  /** A longer answer cannot come from the expected server. */
  maxBytes: number;
  clock: Clock;
  signal: AbortSignal;
  tls?: ConnectionOptions;
  /** The forward proxy to use. */
  proxy?: URL | undefined;
}

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
}

/** @throws Broken when no complete answer came. */
export async function exchange(call: Exchange): Promise<Answer> {
  const { clock, signal, deadlineMs } = call;
  const end = new AbortController();
  const overdue = new AbortController();
  const stop = AbortSignal.any([signal, overdue.signal]);
  void clock.sleep(deadlineMs, end.signal).then(() => end.signal.aborted || overdue.abort());
  try {
    if (stop.aborted) throw new Broken('cut', 'stopped');
    return await route(call, stop);
  } catch (error) {
    if (overdue.signal.aborted) throw new Broken('timeout', `no answer within ${Math.round(deadlineMs / 1000)} s`);
    throw broken(error);
  } finally {
    end.abort();
  }
}

async function route(call: Exchange, signal: AbortSignal): Promise<Answer> {
  const { proxy, tls } = call;
  const target = new URL(call.url);
  if (!proxy) return await send(call, {}, signal);
  if (target.protocol === 'http:') {
    return await send(call, throughProxy(proxy, target), signal).catch((error: unknown) => {
      throw proxyBroken(proxy, error);
    });
  }
  const socket = await openTunnel(proxy, target, tls, signal);
  try {
    return await send(call, { socket }, signal);
  } finally {
    socket.destroy();
  }
}

type Way = RequestOptions & { socket?: Socket };

function send({ url, method, headers, body, tls, maxBytes }: Exchange, way: Way, signal: AbortSignal): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? {} : { 'content-length': String(Buffer.byteLength(body)) };
    const all = { ...headers, ...length, ...(way.headers as Record<string, string>) };
    const options: RequestOptions = { method, signal, agent: false, ...way, headers: all };
    const answered = (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        chunks.push(chunk);
        if (bytes > maxBytes) request.destroy(new Broken('too_long', `more than ${maxBytes} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({ status: response.statusCode ?? 0, headers: response.headers, text });
      });
    };
    const request = url.startsWith('https:')
      ? https.request(url, { ...options, ...tls }, answered)
      : http.request(url, options, answered);
    request.on('error', reject);
    request.end(body);
  });
}
