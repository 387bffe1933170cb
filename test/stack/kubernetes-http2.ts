/** Owns faults of HTTP/2 in the Kubernetes stand-in: GOAWAY, as with `kube-apiserver --goaway-chance`, and broken connections. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2';

/** The newest request of each connection, and after its GOAWAY, the newest request that is still answered. */
const newest = new WeakMap<Http2Session, { id: number; isLast: boolean }>();

/**
 * Sends a GOAWAY with some requests, as in RFC 9113 section 6.8: requests up to then are answered, and later ones are not
 * processed. @returns whether the caller must not process this request, of which the client is informed.
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

/** Ends a request's connection without an answer. */
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
