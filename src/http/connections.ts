/** Owns how many connections there are at once: past the cap, the one that has waited longest for a request makes room. */
import type { Server, ServerResponse } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';

/**
 * Health checks and callers come through while connections that ask nothing are piled up. Where each has a request under
 * way, the new one is cut.
 * @param onCut told of each connection that was cut.
 */
export function capConnections(server: Server | HttpsServer, max: number, onCut: () => void): void {
  /** Those without a request under way, the longest idle first; by peer, since TLS wraps the socket that came. */
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
