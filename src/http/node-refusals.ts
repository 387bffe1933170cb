/** Owns the answers to requests that Node refuses before the application sees them: they get a problem body too. */
import { randomUUID } from 'node:crypto';
import { type IncomingMessage, type Server, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { ApiError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { lingeringClose } from './body.ts';
import { problemText, problemType } from './problem.ts';

/** https://nodejs.org/api/http.html#event-clienterror. Codes with `HPE_` come from the HTTP parser. */
function problemOf(code: string): ApiError | undefined {
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return new ApiError('request_timeout', 'The request did not come in time.');
  if (code === 'HPE_HEADER_OVERFLOW') {
    return new ApiError('headers_too_large', 'The headers, the token among them, are longer than 32 KiB.');
  }
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') {
    return new ApiError('payload_too_large', 'The chunks of the body are described at too great length.');
  }
  if (!code.startsWith('HPE_')) return undefined;
  const message = 'The request is not valid HTTP.';
  return new ApiError('invalid_request', message, { errors: [{ path: '/', message }] });
}

/** Gives Node's own refusals (400, 408, 413, 417, 431) a problem body and a request id, and logs all but 417. */
export function answerRefusals(server: Server | HttpsServer, log: Log): void {
  const underWay = new WeakMap<Socket, ServerResponse>();
  server.on('request', ({ socket }: IncomingMessage, res: ServerResponse) => void underWay.set(socket, res));

  server.on('clientError', (error: NodeJS.ErrnoException, socket: Socket) => {
    const problem = problemOf(error.code ?? '');
    const response = underWay.get(socket);
    const isAnswered = response?.headersSent && !response.writableFinished;
    if (!problem || isAnswered) {
      socket.destroy();
      return;
    }
    // This connection got its refusal already; more bytes on it can fail to parse again.
    if (!socket.writable) return;
    const requestId = randomUUID();
    log.info({ request_id: requestId, status: problem.status, cause: error.code }, 'refused before it was a request');
    const text = problemText(problem, requestId);
    const head = Object.entries(headersOf(text, requestId)).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}\r\n${head.join('')}\r\n${text}`);
    lingeringClose(socket);
  });

  server.on('checkExpectation', (_req: IncomingMessage, res: ServerResponse) => {
    const problem = new ApiError('expectation_failed', 'The one Expect that is met is 100-continue.');
    const requestId = randomUUID();
    const text = problemText(problem, requestId);
    res.writeHead(problem.status, headersOf(text, requestId)).end(text);
  });
}

function headersOf(text: string, requestId: string): Record<string, string> {
  return {
    'Content-Type': problemType,
    'Content-Length': String(Buffer.byteLength(text)),
    'X-Request-Id': requestId,
    'Cache-Control': 'no-store',
    Connection: 'close',
  };
}
