/** Owns raw connections in tests: they send exact bytes, and collect the answer until the connection ends. */
import { connect, type Socket } from 'node:net';
import { until } from './clock.ts';

export interface RawAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
  /** The whole text received. */
  text: string;
}

export interface RawConnection {
  socket: Socket;
  received(): string;
  /** Whether the server has ended the connection. */
  ended(): boolean;
  /** The first complete answer, by the length in its headers. */
  answer(ms?: number): Promise<RawAnswer>;
}

export function connectRaw(port: number): RawConnection {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  let isEnded = false;
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  for (const event of ['end', 'close', 'error']) {
    socket.on(event, () => {
      isEnded = true;
    });
  }
  return {
    socket,
    received: () => text,
    ended: () => isEnded,
    answer: async (ms = 5000) => {
      await until(() => parse(text) !== undefined, ms);
      return parse(text) as RawAnswer;
    },
  };
}

function parse(text: string): RawAnswer | undefined {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]),
  );
  const body = text.slice(end + 4);
  if (body.length < Number(headers['content-length'] ?? 0)) return undefined;
  return { status: Number(first.split(' ')[1]), headers, body, text };
}
