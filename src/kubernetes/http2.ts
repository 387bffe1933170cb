/** Owns one HTTP/2 connection to the Kubernetes API server: its pings, its end, and which requests certainly did not run. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect, constants } from 'node:http2';
import type { Socket } from 'node:net';
import type { Clock } from '../lib/clock.ts';
import { type Answer, NoAnswerError, type Sent } from './answer.ts';

export interface Http2Connection {
  /** False once it takes no new request: it ended, went silent, or the API server said GOAWAY. */
  isOpen(): boolean;
  /** @throws NoAnswerError */
  request(sent: Sent): Promise<Answer>;
  close(): void;
}

const tickMs = 500;
/** Quiet for so many ticks, the API server is asked for a sign of life. */
const pingAfterTicks = 3;
/**
 * Ticks without a byte after the ping: the connection is dead. Ticks are counted, and not time, so that an event loop that
 * was blocked meanwhile has read what came before it judges.
 */
const deadAfterTicks = 5;
/** Node's default of 64 KiB would halt a list of pods every few of them. */
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
  // Each request under way is given the error too.
  session.on('error', end);
  /** Requests without an answer so far, and what says that the API server did not look at them. */
  const waiting = new Map<ClientHttp2Stream, () => void>();
  // What the API server saw is still answered, and watches go on; the rest is refused: RFC 9113 section 6.8. Node leaves
  // those alone that it had not even sent.
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

/** Ends a connection on which not even a ping is answered: TCP itself would give it up after a quarter of an hour. */
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
    // Node throws an answer away that is over before its reader has come, unless it was paused.
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
