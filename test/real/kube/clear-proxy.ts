/** Owns a way in clear to a real API server as an administrator, so that tests make the same bare calls as to the stand-in. */
import { Agent, request } from 'node:https';
import { type RunningServer, startServer } from '../../stack/server.ts';

/** A call with a token of its own keeps it. */
export function startClearProxy(port: number, ca: string, token: string): Promise<RunningServer> {
  const agent = new Agent({ keepAlive: true, ca });
  return startServer((outer, response) => {
    const { host: _host, connection: _connection, ...given } = outer.headers;
    const headers = { authorization: `Bearer ${token}`, ...given };
    const target = { host: '127.0.0.1', port, method: outer.method, path: outer.url, headers, agent };
    return new Promise((resolve) => {
      const inner = request(target, (answer) => {
        response.writeHead(answer.statusCode ?? 500, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
        answer.on('error', () => response.destroy());
      });
      inner.on('error', () => response.destroy());
      response.on('close', () => {
        inner.destroy();
        resolve();
      });
      outer.pipe(inner);
    });
  });
}
