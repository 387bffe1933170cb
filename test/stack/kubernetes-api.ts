/** Owns the Kubernetes stand-in's HTTP API: maps a request's path and query to a verb on a resource, and answers it. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { discovery, findKind, type Kind } from './kubernetes-kinds.ts';
import { type Lists, sendList } from './kubernetes-lists.ts';
import { applyPatchType } from './kubernetes-patch.ts';
import { pinnedName, selector } from './kubernetes-selectors.ts';
import { badRequest, noSuchPath, notFound, StatusError, tooOld } from './kubernetes-status.ts';
import { type Entry, type Store, textOf } from './kubernetes-store.ts';
import type { Tokens } from './kubernetes-tokens.ts';
import type { Watches } from './kubernetes-watches.ts';
import type { DeleteOptions, Target, Writes } from './kubernetes-writes.ts';
import { readBody } from './server.ts';

/** A request for a resource, in the words of RBAC. */
export interface ApiRequest {
  readonly verb: string;
  readonly kind: Kind;
  /** Empty for all namespaces and for cluster-scoped resources. */
  readonly namespace: string;
  readonly name: string | undefined;
  readonly subresource: string | undefined;
  readonly query: URLSearchParams;
}

export interface Rooms {
  readonly store: Store;
  readonly writes: Writes;
  readonly lists: Lists;
  readonly watches: Watches;
  readonly tokens: Tokens;
  readonly emptyLists: () => boolean;
}

const maxBodyBytes = 3 * 1024 * 1024;

/** The verb and resource of the request; undefined when its path names no resource. Throws 405. */
export function readRequest(method: string, url: URL): ApiRequest | undefined {
  const parts = url.pathname.split('/').slice(1).map(decodeURIComponent);
  const [group = '', version = ''] = parts[0] === 'api' ? ['', parts[1]] : parts.slice(1, 3);
  if (parts[0] !== 'api' && parts[0] !== 'apis') return undefined;
  const path = parts.slice(parts[0] === 'api' ? 2 : 3);
  const scoped = path[0] === 'namespaces' && path.length > 2 && !(path.length === 3 && path[2] === 'status');
  const [plural = '', name, subresource, ...tooMuch] = scoped ? path.slice(2) : path;
  const kind = findKind(group, version, plural);
  if (!kind || tooMuch.length > 0 || !hasSubresource(kind, subresource)) return undefined;
  const namespace = scoped ? (path[1] ?? '') : '';
  if (kind.namespaced !== scoped && (scoped || name !== undefined)) return undefined;
  const query = url.searchParams;
  const watch = query.get('watch') === 'true' || query.get('watch') === '1';
  const verbs: Record<string, string> = isToken(subresource)
    ? { POST: 'create' }
    : name
      ? { GET: watch ? 'watch' : 'get', PUT: 'update', PATCH: 'patch', DELETE: 'delete' }
      : { GET: watch ? 'watch' : 'list', POST: 'create', DELETE: 'deletecollection' };
  const verb = verbs[method];
  const needsNamespace = kind.namespaced && verb !== 'list' && verb !== 'watch';
  if (!verb || (needsNamespace && namespace === '')) {
    throw new StatusError(405, 'the server does not allow this method on the requested resource');
  }
  const pinned = verb === 'list' || verb === 'watch' ? pinnedName(query.get('fieldSelector')) : undefined;
  return { verb, kind, namespace, name: name ?? pinned, subresource, query };
}

const isToken = (subresource: string | undefined) => subresource === 'token';

function hasSubresource({ plural }: Kind, subresource: string | undefined): boolean {
  return (
    subresource === undefined || subresource === 'status' || (isToken(subresource) && plural === 'serviceaccounts')
  );
}

/** Answers a request for a resource. Refusals are thrown as StatusError. */
export async function answer(
  rooms: Rooms,
  asked: ApiRequest,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { kind, namespace, name = '', subresource, query, verb } = asked;
  const target: Target = { kind, namespace, name, subresource, dryRun: query.has('dryRun') };
  const sendEntry = (code: number, entry: Entry) => sendText(response, code, textOf(kind, entry));
  switch (verb) {
    case 'get': {
      const entry = rooms.store.find(kind, namespace, name);
      if (!entry) throw notFound(kind, name);
      return sendEntry(200, entry);
    }
    case 'list':
      return list(rooms, asked, response);
    case 'watch':
      return watch(rooms, asked, response);
    case 'create': {
      if (isToken(subresource))
        return sendJson(response, 201, await rooms.tokens(namespace, name, await readJson(request)));
      const { code, entry } = rooms.writes.create(target, await readJson(request));
      return sendEntry(code, entry);
    }
    case 'update': {
      const { code, entry } = rooms.writes.update(target, await readJson(request));
      return sendEntry(code, entry);
    }
    case 'patch': {
      const type = mediaType(request);
      if (type === applyPatchType && !query.get('fieldManager')) {
        throw new StatusError(422, 'fieldManager: Required value: is required for apply patch');
      }
      const { code, entry } = rooms.writes.patch(target, await readJson(request, true), type);
      return sendEntry(code, entry);
    }
    case 'delete': {
      const options = deleteOptions(query, await readJson(request));
      const { entry, gone } = rooms.writes.remove(target, options);
      if (kind.deleteAnswersObject || !gone) return sendEntry(200, entry);
      return sendJson(response, 200, deleted(kind, entry));
    }
    default: {
      const options = deleteOptions(query, await readJson(request));
      const { entries, version } = rooms.lists.page({ ...listRequest(asked), limit: 0, continue: null });
      const removed = entries.map((entry) => rooms.writes.remove({ ...target, name: entry.name }, options).entry);
      return sendList(response, kind, { version, entries: removed, continue: undefined, remaining: undefined });
    }
  }
}

/** Answers discovery and health. Throws 404 for every other path. */
export function answerDiscovery(path: string, response: ServerResponse): void {
  if (/^\/(healthz|livez|readyz)$/.test(path)) {
    response.end('ok');
    return;
  }
  const document = discovery(path);
  if (document === undefined) throw noSuchPath();
  sendJson(response, 200, document);
}

export function sendJson(response: ServerResponse, code: number, body: unknown): void {
  sendText(response, code, JSON.stringify(body));
}

/** In plain text: https://github.com/kubernetes/apiserver/blob/v0.36.3/pkg/server/filters/priority-and-fairness.go */
export function sendTooMany(response: ServerResponse): void {
  const head = { 'content-type': 'text/plain; charset=utf-8', 'retry-after': '1' };
  response.writeHead(429, head).end('Too many requests, please try again later.\n');
}

function sendText(response: ServerResponse, code: number, text: string): void {
  response.writeHead(code, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}

function listRequest({ kind, namespace, query }: ApiRequest) {
  const labels = query.get('labelSelector');
  const fields = query.get('fieldSelector');
  const selects = selector(kind, labels, fields);
  const matches = (entry: Entry) => (namespace === '' || entry.namespace === namespace) && selects(entry);
  return { kind, matches, selecting: Boolean(labels || fields) };
}

function list(rooms: Rooms, asked: ApiRequest, response: ServerResponse): Promise<void> {
  const { query, kind } = asked;
  const limit = Number(query.get('limit') ?? 0);
  const wanted = Number(query.get('resourceVersion') || 0);
  if (wanted > rooms.store.version) {
    const message = `Too large resource version: ${wanted}, current: ${rooms.store.version}`;
    throw new StatusError(504, message, 'Timeout', { retryAfterSeconds: 1 });
  }
  const page = rooms.lists.page({ ...listRequest(asked), limit, continue: query.get('continue') });
  return sendList(response, kind, rooms.emptyLists() ? { ...page, entries: [], continue: undefined } : page);
}

function watch({ store, watches }: Rooms, asked: ApiRequest, response: ServerResponse): void {
  const { query, kind, name } = asked;
  const { matches: selected } = listRequest(asked);
  const timeout = Number(query.get('timeoutSeconds') ?? 0);
  const bookmarks = query.get('allowWatchBookmarks') === 'true' || query.get('allowWatchBookmarks') === '1';
  const matches = (entry: Entry) => (name === undefined || entry.name === name) && selected(entry);
  const request = { kind, matches, bookmarks, timeoutSeconds: timeout > 0 ? timeout : undefined };
  if (query.has('sendInitialEvents') && query.get('resourceVersionMatch') !== 'NotOlderThan') {
    const rule = 'sendInitialEvents requires setting resourceVersionMatch to NotOlderThan';
    throw new StatusError(422, `ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: ${rule}`);
  }
  const from = Number(query.get('resourceVersion') || 0);
  if (!Number.isSafeInteger(from)) throw badRequest(`Invalid value: "${query.get('resourceVersion')}"`);
  if (query.get('sendInitialEvents') === 'true' || from === 0) {
    const streamed = query.get('sendInitialEvents') === 'true' && bookmarks;
    watches.start(request, response, {
      objects: store.ordered(kind).filter(matches),
      changes: [],
      ...(streamed ? { endOfObjects: store.version } : {}),
    });
    return;
  }
  const changes = store.since(kind, from);
  if (changes) watches.start(request, response, { objects: [], changes });
  else watches.refuse(request, response, tooOld(from, store.oldest(kind)));
}

async function readJson(request: IncomingMessage, isPatch = false): Promise<unknown> {
  const type = mediaType(request);
  const text = await readBody(request);
  if (Buffer.byteLength(text) > maxBodyBytes) {
    throw new StatusError(413, `Request entity too large: limit is ${maxBodyBytes}`);
  }
  if (!isPatch && type && type !== 'application/json') {
    // The real one takes YAML and protobuf too; `kubectl create configmap` sends the latter, `kubectl create -f` JSON.
    throw new StatusError(415, `the stand-in reads application/json only, and was sent ${type}`);
  }
  if (text === '') return {};
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw badRequest(`the object provided is unrecognized: ${error instanceof Error ? error.message : error}`);
  }
}

function mediaType(request: IncomingMessage): string {
  return (request.headers['content-type'] ?? '').split(';')[0]?.trim() ?? '';
}

function deleteOptions(query: URLSearchParams, body: unknown): DeleteOptions {
  const grace = query.get('gracePeriodSeconds');
  return { ...(grace === null ? {} : { gracePeriodSeconds: Number(grace) }), ...(body as DeleteOptions) };
}

function deleted(kind: Kind, { name, uid }: Entry) {
  const group = kind.group === '' ? {} : { group: kind.group };
  const details = { name, ...group, kind: kind.plural, uid };
  return { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Success', details };
}
