/** Owns lists in the Kubernetes stand-in: selection, pages over one snapshot, and streaming of long answers. */
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { apiVersionOf, type Kind } from './kubernetes-kinds.ts';
import { badRequest, StatusError } from './kubernetes-status.ts';
import { type Entry, type Store, textOf } from './kubernetes-store.ts';

export interface Page {
  readonly version: number;
  readonly entries: readonly Entry[];
  readonly continue: string | undefined;
  /** The number of items after this page; undefined when a selector is used. */
  readonly remaining: number | undefined;
}

export interface ListRequest {
  readonly kind: Kind;
  readonly matches: (entry: Entry) => boolean;
  readonly selecting: boolean;
  readonly limit: number;
  readonly continue: string | null;
}

/** The number of snapshots kept for later pages; the real API server forgets them after five minutes. */
const maxSnapshots = 32;

export class Lists {
  readonly #store: Store;
  readonly #snapshots = new Map<string, readonly Entry[]>();

  constructor(store: Store) {
    this.#store = store;
  }

  /** Throws 410 when the snapshot behind a `continue` is gone. */
  page({ kind, matches, selecting, limit, continue: token }: ListRequest): Page {
    const { version, offset } = token ? readToken(token) : { version: this.#store.version, offset: 0 };
    const key = `${version} ${kind.group} ${kind.plural}`;
    const snapshot = token ? this.#snapshots.get(key) : this.#store.ordered(kind);
    if (!snapshot) {
      const message =
        'The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.';
      throw new StatusError(410, message, 'Expired');
    }
    const entries: Entry[] = [];
    let index = offset;
    for (; index < snapshot.length; index += 1) {
      const entry = snapshot[index];
      if (!entry || !matches(entry)) continue;
      if (limit > 0 && entries.length === limit) break;
      entries.push(entry);
    }
    if (index >= snapshot.length) return { version, entries, continue: undefined, remaining: undefined };
    this.#snapshots.set(key, snapshot);
    for (const oldest of this.#snapshots.keys()) {
      if (this.#snapshots.size <= maxSnapshots) break;
      this.#snapshots.delete(oldest);
    }
    const next = Buffer.from(JSON.stringify({ version, offset: index })).toString('base64url');
    const remaining = selecting ? undefined : snapshot.slice(index).filter(matches).length;
    return { version, entries, continue: next, remaining };
  }

  forget(): void {
    this.#snapshots.clear();
  }
}

function readToken(token: string): { version: number; offset: number } {
  try {
    const { version, offset } = JSON.parse(Buffer.from(token, 'base64url').toString()) as Record<string, unknown>;
    if (typeof version === 'number' && typeof offset === 'number') return { version, offset };
  } catch {
    // Not a token of this stand-in: falls through to the same answer.
  }
  throw badRequest('continue key is not valid');
}

/** Writes the list in pieces, as fast as the client reads: a list of 10,000 pods is tens of megabytes. */
export async function sendList(response: ServerResponse, kind: Kind, page: Page): Promise<void> {
  const metadata = {
    resourceVersion: String(page.version),
    ...(page.continue ? { continue: page.continue } : {}),
    ...(page.remaining === undefined ? {} : { remainingItemCount: page.remaining }),
  };
  const head = JSON.stringify({ kind: `${kind.kind}List`, apiVersion: apiVersionOf(kind), metadata }).slice(0, -1);
  response.writeHead(200, { 'content-type': 'application/json' });
  // A client that disconnects during the answer is no error.
  await pipeline(Readable.from(pieces(head, kind, page.entries)), response).catch(() => undefined);
}

function* pieces(head: string, kind: Kind, entries: readonly Entry[]): Generator<string> {
  let piece = `${head},"items":[`;
  for (const [index, entry] of entries.entries()) {
    piece += (index === 0 ? '' : ',') + (kind.custom ? textOf(kind, entry) : entry.json);
    if (piece.length > 256 * 1024) {
      yield piece;
      piece = '';
    }
  }
  yield `${piece}]}`;
}
