/** Owns the cap on open connections: above it, the connection that has been idle longest is closed. */
import type { Server, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';

/**
 * Lets health checks and callers through while a client piles up idle connections. Where every connection has a
 * request in flight, the new one is closed.
 * @param onCut called for each connection that was closed.
 */
export function capConnections(server: Server | HttpsServer, max: number, onCut: () => void): void {
  /** Connections without a request in flight, the longest idle first; by peer, since TLS wraps the accepted socket. */
  const idle = new Map<string, Socket>();
  let open = 0;

  server.on('connection', (socket: Socket) => {
    const peer = peerOf(socket);
    open += 1;
    socket.once('close', () => {
      open -= 1;
      if (idle.get(peer) === socket) idle.delete(peer);
    });
    if (open > max) {
      onCut();
      const [longest] = idle;
      if (!longest) {
        socket.destroy();
        return;
      }
      idle.delete(longest[0]);
      longest[1].destroy();
    }
    idle.set(peer, socket);
  });
  server.on('secureConnection', (socket: Socket) => {
    const peer = peerOf(socket);
    if (idle.has(peer)) idle.set(peer, socket);
    socket.once('close', () => idle.delete(peer));
  });
  server.on('request', ({ socket }: { socket: Socket }, res: ServerResponse) => {
    const peer = peerOf(socket);
    idle.delete(peer);
    res.once('close', () => {
      if (!socket.destroyed) idle.set(peer, socket);
    });
  });
}

function peerOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
