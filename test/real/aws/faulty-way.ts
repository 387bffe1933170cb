/** Owns a relay between the service and an AWS emulator, on which calls of IAM meet faults that no emulator can play itself. */
import { type IncomingHttpHeaders, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { readBody, startServer } from '../../stack/server.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** One call of IAM, and what a fault may do with it. */
export interface Exchange {
  readonly action: string;
  /** Has the emulator answer it, each time that this is called. */
  forward(): Promise<Answer>;
  send(answer: Pick<Answer, 'status' | 'body'> & Partial<Answer>): void;
  /** Sends the head and half of the body, and ends the connection. */
  sendHalf(answer: Answer): void;
  /** Ends the connection without an answer. */
  drop(): void;
  /** The last answer of the emulator to the same call before the fault began; undefined where there was none. */
  readonly before: Answer | undefined;
}

export type Fault = (exchange: Exchange) => unknown;

export interface FaultyWay {
  readonly url: string;
  /** How many calls met the fault since it was set. */
  readonly met: number;
  /** The next `times` calls of each of these actions meet the fault; no call does when it is undefined. */
  set(fault: Fault | undefined, actions?: readonly string[], times?: number): void;
  close(): Promise<void>;
}

/** @param target the emulator's address. */
export async function startFaultyWay(target: string): Promise<FaultyWay> {
  const { hostname, port } = new URL(target);
  const answers = new Map<string, Answer>();
  const left = new Map<string, number>();
  let fault: Fault | undefined;
  let met = 0;

  function forward(incoming: IncomingMessage, body: string): Promise<Answer> {
    const { method, url: path, headers } = incoming;
    return new Promise((resolve, reject) => {
      const sent = request({ hostname, port, method, path, headers }, (response) => {
        readBody(response).then(
          (text) => resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
          reject,
        );
      });
      sent.on('error', reject).end(body);
    });
  }
  async function relay(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readBody(incoming);
    const form = new URLSearchParams(body);
    const action = form.get('Action') ?? '';
    const call = `${action} ${form.get('RoleName')}`;
    const send: Exchange['send'] = ({ status, headers = { 'content-type': 'text/xml' }, body: text }) => {
      const { 'content-length': _, 'transfer-encoding': __, ...kept } = headers;
      if (!response.destroyed) response.writeHead(status, kept).end(text);
    };
    const times = left.get(action) ?? 0;
    if (fault === undefined || times === 0) {
      const answer = await forward(incoming, body);
      answers.set(call, answer);
      return send(answer);
    }
    left.set(action, times - 1);
    met += 1;
    await fault({
      action,
      forward: () => forward(incoming, body),
      send,
      sendHalf: ({ status, headers, body: text }) => {
        response.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(text) });
        response.write(text.slice(0, text.length / 2), () => response.destroy());
      },
      drop: () => void incoming.socket.destroy(),
      before: answers.get(call),
    });
  }
  const server = await startServer((incoming, response) =>
    relay(incoming, response).catch(() => void incoming.socket.destroy()),
  );
  return {
    url: server.url,
    get met() {
      return met;
    },
    set: (next, actions = [], times = 0) => {
      fault = next;
      met = 0;
      left.clear();
      for (const action of actions) left.set(action, times);
    },
    close: () => server.close(),
  };
}
