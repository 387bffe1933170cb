/** Owns one HTTP/2 connection to the API server: its pings, its end, and the requests that were not processed. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { type Answer, NoAnswerError, type Sent } from './answer.ts';

export interface Http2Connection {
  /** False once it accepts no new requests: it ended, went silent, or the API server sent GOAWAY. */
  isOpen(): boolean;
  /** @throws NoAnswerError */
  request(sent: Sent): Promise<Answer>;
  close(): void;
}

const tickMs = 500;
/** After so many ticks without a byte, the client sends a ping. */
const pingAfterTicks = 3;
/**
 * After so many further ticks without a byte, the connection is dead. It counts ticks and not time, so that an event
 * loop that was blocked first reads what has arrived.
 */
const deadAfterTicks = 5;
/** Node's default of 64 KiB would stall a list of pods every few pods. */
const windowBytes = 1024 * 1024;

export function openHttp2(socket: Socket, server: URL, clock: Clock): Http2Connection {
  const session = connect(server.origin, {
    createConnection: () => socket,
    settings: { enablePush: false, initialWindowSize: windowBytes },
  });
  let isOpen = true;
  const ended = new AbortController();
  const end = () => {
    isOpen = false;
    ended.abort();
  };
  session.once('connect', () => session.setLocalWindowSize(4 * windowBytes));
  session.once('close', end);
  // Each request in flight gets the error too.
  session.on('error', end);
  /** Requests without an answer so far, each with the function that fails it as not processed. */
  const waiting = new Map<ClientHttp2Stream, () => void>();
  // Requests up to the last stream are still answered, and watches go on; later ones were not processed: RFC 9113
  // section 6.8. Node does not fail requests that it had not sent yet.
  session.on('goaway', (_code, lastStream) => {
    isOpen = false;
    for (const [stream, refuse] of waiting) if ((stream.id ?? Infinity) > lastStream) refuse();
  });
  void watchOver(session, socket, clock, ended.signal);

  return {
    isOpen: () => isOpen && !session.closed && !session.destroyed,
    request: (sent) => request(session, server, sent, waiting),
    close: () => session.destroy(),
  };
}

/** Ends a connection on which not even a ping is answered: TCP alone would take a quarter of an hour to give up. */
async function watchOver(session: ClientHttp2Session, socket: Socket, clock: Clock, ended: AbortSignal): Promise<void> {
  let quietTicks = 0;
  let heard = -1;
  for (;;) {
    await clock.sleep(tickMs, ended);
    if (ended.aborted || session.destroyed) return;
    quietTicks = socket.bytesRead === heard ? quietTicks + 1 : 0;
    heard = socket.bytesRead;
    if (quietTicks === pingAfterTicks) session.ping(() => undefined);
    if (quietTicks < pingAfterTicks + deadAfterTicks) continue;
    session.destroy(new Error('the connection is silent: a ping had no answer'));
    return;
  }
}

function request(
  session: ClientHttp2Session,
  server: URL,
  sent: Sent,
  waiting: Map<ClientHttp2Stream, () => void>,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { method, path, headers, body, signal } = sent;
    const head = { ...headers, ':method': method, ':path': path, ':authority': server.host, ':scheme': 'https' };
    let stream: ClientHttp2Stream;
    try {
      stream = session.request(head, { endStream: body === undefined, signal });
    } catch (cause) {
      return reject(new NoAnswerError('refused', cause));
    }
    const fail = (cause: unknown) => {
      const isRefused = stream.rstCode === constants.NGHTTP2_REFUSED_STREAM;
      reject(new NoAnswerError(isRefused ? 'refused' : stream.pending ? 'unsent' : 'lost', cause));
    };
    // Unless the stream is paused, Node discards an answer that ends before something reads it.
    stream.pause();
    waiting.set(stream, () => {
      reject(new NoAnswerError('refused', 'the API server said GOAWAY before'));
      stream.destroy();
    });
    stream.on('error', fail);
    stream.once('close', () => {
      if (waiting.delete(stream)) fail('the request was ended without an answer');
    });
    stream.once('response', ({ ':status': status, ...answered }) => {
      waiting.delete(stream);
      resolve({ status: Number(status), retryAfter: answered['retry-after'], body: stream });
    });
    if (body !== undefined) stream.end(body);
  });
}
