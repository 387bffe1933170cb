/** Owns the objects of the Kubernetes stand-in: one version counter, the current state, and the window of changes. */
import { randomUUID } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../../src/lib/clock.ts';
import { apiVersionOf, type Kind, type KubernetesObject, type Metadata } from './kubernetes-kinds.ts';

/** One version of one object. It is kept as text, which cannot be changed and is serialized once. */
export interface Entry {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly version: number;
  readonly labels: Readonly<Record<string, string>>;
  readonly fields: Readonly<Record<string, string>>;
  /** JSON without kind and apiVersion, which items of typed lists lack. */
  readonly json: string;
}

export interface Change {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED';
  readonly version: number;
  readonly entry: Entry;
  readonly previous: Entry | undefined;
}

interface Collection {
  readonly entries: Map<string, Entry>;
  ordered: readonly Entry[] | undefined;
  history: Change[];
  /** The version of the last forgotten change: a watch from an earlier version cannot be answered. */
  floor: number;
}

export class Store {
  /** The one global resource version. */
  version = 1;
  readonly #clock: Clock;
  readonly #window: number;
  readonly #collections = new Map<Kind, Collection>();
  readonly #listeners: ((kind: Kind, change: Change) => void)[] = [];

  constructor(clock: Clock, window: number) {
    this.#clock = clock;
    this.#window = window;
  }

  onChange(listener: (kind: Kind, change: Change) => void): void {
    this.#listeners.push(listener);
  }

  find(kind: Kind, namespace: string, name: string): Entry | undefined {
    return this.#collection(kind).entries.get(`${namespace}/${name}`);
  }

  /** Every entry in the order of namespace and name. The array is a snapshot: it never changes afterwards. */
  ordered(kind: Kind): readonly Entry[] {
    const collection = this.#collection(kind);
    collection.ordered ??= [...collection.entries].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
    return collection.ordered;
  }

  /** Creates or replaces without checks; an equal object changes nothing. The store keeps the object itself. */
  write(kind: Kind, object: KubernetesObject): Entry {
    const metadata = object.metadata ?? {};
    const name = metadata.name ?? '';
    const namespace = kind.namespaced ? (metadata.namespace ?? 'default') : '';
    const previous = this.find(kind, namespace, name);
    if (previous && isDeepStrictEqual(bare(object, String(previous.version)), JSON.parse(previous.json)))
      return previous;
    const version = ++this.version;
    const entry = this.render(kind, object, version);
    const type = previous ? 'MODIFIED' : 'ADDED';
    this.#collection(kind).entries.set(`${namespace}/${name}`, entry);
    this.#record(kind, { type, version, entry, previous });
    return entry;
  }

  /** Removes; returns the last state with the version of the removal. */
  erase(kind: Kind, previous: Entry): Entry {
    const version = ++this.version;
    const entry = reversioned(previous, version);
    this.#collection(kind).entries.delete(`${previous.namespace}/${previous.name}`);
    this.#record(kind, { type: 'DELETED', version, entry, previous });
    return entry;
  }

  /** The changes after a version, oldest first; undefined when some of them are forgotten. */
  since(kind: Kind, version: number): Change[] | undefined {
    const { history, floor } = this.#collection(kind);
    if (version < floor) return undefined;
    let low = 0;
    let high = history.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((history[middle]?.version ?? 0) <= version) low = middle + 1;
      else high = middle;
    }
    return history.slice(low);
  }

  oldest(kind: Kind): number {
    return this.#collection(kind).floor;
  }

  /** Forgets all changes. The counter moves on, so that every earlier version is too old. */
  forget(): void {
    this.version += 1;
    for (const collection of this.#collections.values()) {
      collection.history = [];
      collection.floor = this.version;
    }
  }

  /** An entry that is not stored, for the answer of a dry run. */
  render(kind: Kind, object: KubernetesObject, version: number): Entry {
    const plain = bare(object, version === 0 ? undefined : String(version));
    const metadata = plain.metadata ?? {};
    const fields: Record<string, string> = { 'metadata.name': metadata.name ?? '' };
    if (kind.namespaced) fields['metadata.namespace'] = metadata.namespace ?? '';
    for (const path of kind.fields) fields[path] = String(at(plain, path) ?? '');
    return {
      namespace: kind.namespaced ? (metadata.namespace ?? 'default') : '',
      name: metadata.name ?? '',
      uid: metadata.uid ?? '',
      version,
      labels: metadata.labels ?? {},
      fields,
      json: JSON.stringify(plain),
    };
  }

  /** The identity that the server gives a new object. */
  birth(): Pick<Metadata, 'uid' | 'creationTimestamp'> & { uid: string; creationTimestamp: string } {
    return { uid: randomUUID(), creationTimestamp: this.timestamp() };
  }

  /** Now, to the second, as metadata holds it. */
  timestamp(secondsAhead = 0): string {
    return `${new Date(this.#clock.now() + secondsAhead * 1000).toISOString().slice(0, 19)}Z`;
  }

  #collection(kind: Kind): Collection {
    let collection = this.#collections.get(kind);
    if (!collection) {
      collection = { entries: new Map(), ordered: undefined, history: [], floor: 0 };
      this.#collections.set(kind, collection);
    }
    return collection;
  }

  #record(kind: Kind, change: Change): void {
    const collection = this.#collection(kind);
    collection.ordered = undefined;
    collection.history.push(change);
    // Dropped in blocks: removing the first element of a long array at each change would cost its length each time.
    if (collection.history.length > this.#window + Math.max(16, this.#window / 4)) {
      const dropped = collection.history.splice(0, collection.history.length - this.#window);
      collection.floor = dropped.at(-1)?.version ?? collection.floor;
    }
    for (const listener of this.#listeners) listener(kind, change);
  }
}

/** The entry's whole object as text. */
export function textOf(kind: Kind, entry: Entry): string {
  return `{"kind":"${kind.kind}","apiVersion":"${apiVersionOf(kind)}",${entry.json.slice(1)}`;
}

/** A copy of the entry's whole object, which the caller may change. */
export function objectOf(kind: Kind, entry: Entry): KubernetesObject & { metadata: Metadata } {
  return JSON.parse(textOf(kind, entry)) as KubernetesObject & { metadata: Metadata };
}

/** The same state under another version: what a DELETED event carries. */
export function reversioned(entry: Entry, version: number): Entry {
  const object = JSON.parse(entry.json) as KubernetesObject;
  return { ...entry, version, json: JSON.stringify(bare(object, String(version))) };
}

function bare(object: KubernetesObject, resourceVersion: string | undefined): KubernetesObject {
  const { kind: _kind, apiVersion: _apiVersion, metadata = {}, ...rest } = object;
  const { resourceVersion: _version, managedFields: _managed, ...kept } = metadata;
  return { metadata: resourceVersion === undefined ? kept : { ...kept, resourceVersion }, ...rest };
}

function at(object: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => (value as Record<string, unknown> | undefined)?.[key], object);
}
