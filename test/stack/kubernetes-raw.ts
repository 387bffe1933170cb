/** Owns plain HTTP calls and watches to the Kubernetes stand-in, for requests that no client library can send. */
import type { KubernetesObject } from './kubernetes-kinds.ts';

export interface RawAnswer {
  readonly code: number;
  readonly body: KubernetesObject & {
    items?: KubernetesObject[];
    reason?: string;
    message?: string;
    code?: number;
    [field: string]: unknown;
  };
}

/** Sends a request and reads the JSON answer; `type` is the request's media type. */
export async function call(
  url: string,
  method = 'GET',
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<RawAnswer> {
  const response = await fetch(url, {
    method,
    headers: { 'content-type': 'application/json', ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { code: response.status, body: (await response.json()) as RawAnswer['body'] };
}

export interface RawEvent {
  readonly type: string;
  readonly object: KubernetesObject & { code?: number; reason?: string };
}

/** One open watch. A test reads its events one by one, so that it waits only for those that it expects. */
export interface RawWatch {
  /** The next event; undefined at the end of the stream. Rejects when the connection breaks. */
  next(): Promise<RawEvent | undefined>;
  /** `ADDED one 5`: the next event's type, its object's name, and its `data.x` if it has one; `END` at the end. */
  brief(): Promise<string>;
  stop(): void;
}

export async function openWatch(url: string): Promise<RawWatch> {
  const controller = new AbortController();
  const response = await fetch(url, { signal: controller.signal });
  if (!response.ok || !response.body) throw new Error(`watch answered ${response.status}`);
  // Taken at once, and not at the first next(): fetch cancels an unread body when its response is garbage-collected.
  const events = readEvents(response.body.pipeThrough(new TextDecoderStream()));
  const next = async () => (await events.next()).value ?? undefined;
  return {
    next,
    brief: async () => {
      const event = await next();
      const data = event?.object.data as { x?: string } | undefined;
      return [event?.type ?? 'END', event?.object.metadata?.name, data?.x].filter(Boolean).join(' ');
    },
    stop: () => controller.abort(),
  };
}

async function* readEvents(body: ReadableStream<string>): AsyncGenerator<RawEvent, undefined> {
  let rest = '';
  for await (const chunk of body) {
    const lines = (rest + chunk).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) yield JSON.parse(line) as RawEvent;
  }
  return undefined;
}
