/** Owns the open watches of the Kubernetes stand-in: delivers changes and bookmarks, and can hold back or cut the streams. */
import type { ServerResponse } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import { breakAnswer } from './kubernetes-http2.ts';
import { apiVersionOf, type Kind } from './kubernetes-kinds.ts';
import type { StatusError } from './kubernetes-status.ts';
import { type Change, type Entry, reversioned, textOf } from './kubernetes-store.ts';

export interface WatchRequest {
  readonly kind: Kind;
  readonly matches: (entry: Entry) => boolean;
  readonly bookmarks: boolean;
  readonly timeoutSeconds: number | undefined;
}

type EventType = Change['type'];

interface Watcher extends WatchRequest {
  readonly response: ServerResponse;
  /** Events that arrived while watches were frozen. */
  held: Buffer[];
  /** Whether the final event is sent: no event follows, and the stream ends after the held events. */
  ending: boolean;
}

export class Watches {
  readonly #clock: Clock;
  readonly #watchers = new Set<Watcher>();
  #frozen = false;
  #bookmarks = new AbortController();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get open(): number {
    return this.#watchers.size;
  }

  /** Starts a stream with the existing objects, then the changes since the client's version. */
  start(
    request: WatchRequest,
    response: ServerResponse,
    before: { objects: Iterable<Entry>; changes: Iterable<Change>; endOfObjects?: number },
  ): void {
    const watcher = this.#attach(request, response);
    for (const entry of before.objects) this.#send(watcher, eventLine(request.kind, 'ADDED', entry));
    if (before.endOfObjects !== undefined) {
      this.#send(watcher, bookmarkLine(request.kind, before.endOfObjects, { 'k8s.io/initial-events-end': 'true' }));
    }
    for (const change of before.changes) this.#offer(watcher, change, {});
  }

  /** Answers as the real API server does when history is gone: 200, one ERROR event, the end of the stream. */
  refuse(request: WatchRequest, response: ServerResponse, error: StatusError): void {
    const watcher = this.#attach(request, response);
    this.#send(watcher, Buffer.from(`{"type":"ERROR","object":${JSON.stringify(error.body())}}\n`));
    watcher.ending = true;
    if (!this.#frozen) this.#end(watcher);
  }

  /** Delivers a change to every watch that selects it; each form of it is serialized once. */
  dispatch(kind: Kind, change: Change): void {
    const lines: Partial<Record<EventType, Buffer>> = {};
    for (const watcher of this.#watchers) if (watcher.kind === kind) this.#offer(watcher, change, lines);
  }

  /** Holds events back, or releases the held events in order. */
  freeze(frozen: boolean): void {
    this.#frozen = frozen;
    if (frozen) return;
    for (const watcher of this.#watchers) {
      if (watcher.held.length > 0) watcher.response.write(Buffer.concat(watcher.held));
      watcher.held = [];
      if (watcher.ending) this.#end(watcher);
    }
  }

  /** Breaks every stream's connection without a final event. */
  cut(): void {
    for (const { response } of this.#watchers) breakAnswer(response);
    this.#watchers.clear();
  }

  /** Sends a bookmark every `seconds` to watches that requested them; 0 for none. */
  bookmarkEvery(seconds: number, version: () => number): void {
    this.#bookmarks.abort();
    const controller = new AbortController();
    this.#bookmarks = controller;
    if (seconds > 0) void this.#bookmarkLoop(seconds * 1000, version, controller.signal);
  }

  close(): void {
    this.#bookmarks.abort();
    this.cut();
  }

  async #bookmarkLoop(ms: number, version: () => number, signal: AbortSignal): Promise<void> {
    for (;;) {
      await this.#clock.sleep(ms, signal);
      if (signal.aborted) return;
      for (const watcher of this.#watchers) {
        if (watcher.bookmarks) this.#send(watcher, bookmarkLine(watcher.kind, version()));
      }
    }
  }

  #attach(request: WatchRequest, response: ServerResponse): Watcher {
    const watcher: Watcher = { ...request, response, held: [], ending: false };
    const timeout = new AbortController();
    this.#watchers.add(watcher);
    response.once('close', () => {
      this.#watchers.delete(watcher);
      timeout.abort();
    });
    response.writeHead(200, { 'content-type': 'application/json' });
    response.flushHeaders();
    if (request.timeoutSeconds !== undefined) {
      void this.#clock.sleep(request.timeoutSeconds * 1000, timeout.signal).then(() => this.#end(watcher));
    }
    return watcher;
  }

  #offer(
    watcher: Watcher,
    { type, entry, previous, version }: Change,
    lines: Partial<Record<EventType, Buffer>>,
  ): void {
    const now = type !== 'DELETED' && watcher.matches(entry);
    const before = previous !== undefined && watcher.matches(previous);
    if (now) {
      const seen = before ? 'MODIFIED' : 'ADDED';
      lines[seen] ??= eventLine(watcher.kind, seen, entry);
      this.#send(watcher, lines[seen]);
    } else if (before) {
      // An object that leaves the selection is shown as it last was inside, under the version of the change.
      lines.DELETED ??= eventLine(watcher.kind, 'DELETED', type === 'DELETED' ? entry : reversioned(previous, version));
      this.#send(watcher, lines.DELETED);
    }
  }

  #send(watcher: Watcher, line: Buffer): void {
    if (watcher.ending) return;
    if (this.#frozen) watcher.held.push(line);
    else watcher.response.write(line);
  }

  /** Removed from the list first: the connection closes a little later, and must get no event after its end. */
  #end(watcher: Watcher): void {
    this.#watchers.delete(watcher);
    watcher.response.end();
  }
}

function eventLine(kind: Kind, type: EventType, entry: Entry): Buffer {
  return Buffer.from(`{"type":"${type}","object":${textOf(kind, entry)}}\n`);
}

function bookmarkLine(kind: Kind, version: number, annotations?: Record<string, string>): Buffer {
  const metadata = {
    resourceVersion: String(version),
    creationTimestamp: null,
    ...(annotations ? { annotations } : {}),
  };
  const object = { kind: kind.kind, apiVersion: apiVersionOf(kind), metadata };
  return Buffer.from(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`);
}
