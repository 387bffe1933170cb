/** Owns what the Kubernetes stand-in does to HTTP/2 itself: GOAWAY, as of `kube-apiserver --goaway-chance`, and breaks. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';

/** The newest request of each connection, and once its GOAWAY is said, the newest one that is answered. */
const newest = new WeakMap<Http2Session, { id: number; isLast: boolean }>();

/**
 * Some requests end their connection, as RFC 9113 section 6.8 has it: all that came until then is answered, and what comes
 * later is not looked at. @returns whether this request is to be left alone, which its client is told.
 */
export function sayGoaway(request: IncomingMessage, random: () => number, chance: number): boolean {
  const { stream } = request as { stream?: ServerHttp2Stream };
  const session = stream?.session;
  // HTTP/1.1 has none, as in the real one.
  if (!session || stream?.id === undefined) return false;
  const known = newest.get(session);
  if (known?.isLast) return true;
  const seen = known ?? { id: 0, isLast: false };
  seen.id = stream.id;
  newest.set(session, seen);
  if (chance === 0 || random() >= chance) return false;
  setImmediate(() => {
    if (seen.isLast || session.destroyed) return;
    seen.isLast = true;
    session.goaway(0, seen.id);
  });
  if (random() < 0.5) return false;
  stream.close(constants.NGHTTP2_REFUSED_STREAM);
  return true;
}

/** Ends the connection that a request came on, without a word. */
export function breakConnection(request: IncomingMessage): void {
  const { stream } = request as { stream?: ServerHttp2Stream };
  if (stream) stream.session?.destroy();
  else request.socket.destroy();
}

/** Ends an answer in the middle. */
export function breakAnswer(response: ServerResponse): void {
  const { stream } = response as { stream?: ServerHttp2Stream };
  if (stream) stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
