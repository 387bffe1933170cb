/** Owns a gRPC server for unary calls on loopback, which hands each message to its method. */
import { createServer, type Http2Session, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';

export interface GrpcServer {
  readonly port: number;
  close(): Promise<void>;
}

/** @returns the answer; undefined where there is no such method. `connection` is the same object for one connection. */
export type Handle = (method: string, message: Buffer, connection: object) => Promise<Buffer | undefined>;

export async function startGrpc(service: string, handle: Handle): Promise<GrpcServer> {
  const sessions = new Set<Http2Session>();
  const server = createServer();
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream, headers) => {
    const [, name, method = ''] = String(headers[':path']).split('/');
    stream.on('error', () => undefined);
    void answer(stream, name === service ? method : '');
  });

  async function answer(stream: ServerHttp2Stream, method: string): Promise<void> {
    const { session } = stream;
    const head = { ':status': 200, 'content-type': 'application/grpc' };
    const chunks: Buffer[] = [];
    // Streams of go-plugin's own stay open from the client's side: they are not waited for.
    if (method) for await (const chunk of stream) chunks.push(chunk as Buffer);
    // A compression flag and the length stand before a message: grpc.io, "gRPC over HTTP2".
    const message = session && method && (await handle(method, Buffer.concat(chunks).subarray(5), session));
    if (!message) return stream.respond({ ...head, 'grpc-status': '12' }, { endStream: true });
    stream.respond(head, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    stream.end(Buffer.concat([prefix, message]));
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const session of sessions) session.destroy();
      }),
  };
}
