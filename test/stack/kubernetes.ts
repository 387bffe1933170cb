/**
 * Owns the in-memory Kubernetes API server for tests, the demo and the benchmark: it has real semantics over TLS and HTTP/2, so
 * that tests exercise the real clients. It is less strict than the real one where that helps tests: a namespace need not exist,
 * a pod's status can be written along with the rest, its spec can change, and server-side apply merges without tracking the
 * owners of fields. There is no garbage collection by owner.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { type AccessCheck, createAccess, type Tokens } from './kubernetes-access.ts';
import { type Admission, answeringAdmission, refuseWrite } from './kubernetes-admission.ts';
import {
  type ApiRequest,
  answer,
  answerDiscovery,
  type Rooms,
  readRequest,
  sendJson,
  sendTooMany,
} from './kubernetes-api.ts';
import { breakConnection, sayGoaway } from './kubernetes-http2.ts';
import { type Kind, type KubernetesObject, kindNamed } from './kubernetes-kinds.ts';
import { createKnobs, type Knobs, randomSeries } from './kubernetes-knobs.ts';
import { Lists } from './kubernetes-lists.ts';
import { answerOrder } from './kubernetes-orders.ts';
import { StatusError } from './kubernetes-status.ts';
import { type Change, objectOf, Store } from './kubernetes-store.ts';
import { createTokens, type TokenIssuer } from './kubernetes-tokens.ts';
import { defaultTransport, type KubernetesTransport, startTransport, type Transport } from './kubernetes-transport.ts';
import { Watches } from './kubernetes-watches.ts';
import { Writes } from './kubernetes-writes.ts';
import { type RunningServer, startServer } from './server.ts';

export type { AccessRequest } from './kubernetes-access.ts';
export type { Admission } from './kubernetes-admission.ts';
export type { KubernetesObject } from './kubernetes-kinds.ts';
export type { Knobs } from './kubernetes-knobs.ts';

export interface KubernetesOptions {
  readonly port?: number;
  /** The permissions; when absent, all callers may do everything. */
  readonly rbac?: AccessCheck;
  /** Bearer token -> user name. When given, a token that is not in it is refused with 401. */
  readonly tokens?: Tokens;
  /** How many changes of each kind are kept for watches; by default 10,000. */
  readonly historyWindow?: number;
  readonly clock?: Clock;
  /** The issuer that signs the tokens of service accounts. */
  readonly issuer?: TokenIssuer;
  /** See `admit`. */
  readonly admission?: Admission;
  /** The transport for clients of `kubeconfig`; by default `defaultTransport()`. */
  readonly transport?: Transport;
}

export interface KubernetesStandIn {
  /** The URL without TLS, for plain calls and orders; it never goes silent. Clients of `kubeconfig` use another address. */
  readonly url: string;
  readonly knobs: Knobs;
  /** The number of calls by kind, such as `list pods` or `patch pods/status`. */
  readonly calls: Map<string, number>;
  /** A kubeconfig for this server and, if given, this token; as JSON, which is valid YAML. */
  kubeconfig(token?: string): string;
  /** Creates or replaces without conflict check and validation; returns the stored object. `kind` is the plural. */
  put<T extends object = KubernetesObject>(kind: string, object: T): T;
  putMany(kind: string, objects: Iterable<object>): void;
  get<T = KubernetesObject>(kind: string, namespace: string, name: string): T | undefined;
  list<T = KubernetesObject>(kind: string, namespace?: string): T[];
  /** Removes at once, whatever the knobs or finalizers; returns whether the object existed. */
  remove(kind: string, namespace: string, name: string): boolean;
  /** Sets the hook that changes objects at creation, by the API or `put`; undefined removes it. */
  admit(admission: Admission | undefined): void;
  /** Calls back at once for every change of a kind (the plural), whatever the knobs; for a removal with the last state. */
  onChange(kind: string, listener: (type: Change['type'], object: KubernetesObject) => void): void;
  /** Breaks the connection of every watch. */
  cutWatches(): void;
  /** Forgets all history: every client's next watch is answered with 410. */
  expire(): void;
  openWatches(): number;
  /** The number of connections that clients of `kubeconfig` have opened so far. */
  openedConnections(): number;
  close(): Promise<void>;
}

export async function startKubernetes(options: KubernetesOptions = {}): Promise<KubernetesStandIn> {
  const standIn = new StandIn(options);
  await standIn.listen(options.port ?? 0, options.transport ?? defaultTransport());
  return standIn;
}

class StandIn implements KubernetesStandIn {
  readonly calls = new Map<string, number>();
  readonly knobs: Knobs;
  readonly #access: ReturnType<typeof createAccess>;
  readonly #clock: Clock;
  readonly #store: Store;
  readonly #lists: Lists;
  readonly #watches: Watches;
  readonly #rooms: Rooms;
  readonly #sockets = new Set<Socket>();
  /** The connection of the request that sets knobs: it gets its answer even when the knob is `down`. */
  #orderedBy: Socket | undefined;
  #admission: Admission | undefined;
  #random: () => number;
  #server: RunningServer | undefined;
  #transport: KubernetesTransport | undefined;

  constructor(options: KubernetesOptions) {
    this.#access = createAccess(options.tokens, options.rbac);
    this.#clock = options.clock ?? systemClock;
    this.#admission = options.admission;
    this.#store = new Store(this.#clock, options.historyWindow ?? 10_000);
    this.#lists = new Lists(this.#store);
    this.#watches = new Watches(this.#clock);
    this.knobs = createKnobs((knob) => this.#knobChanged(knob));
    this.#random = randomSeries(this.knobs.seed);
    this.#rooms = {
      store: this.#store,
      writes: new Writes(
        this.#store,
        () => this.knobs.gracefulPods,
        answeringAdmission((kind, object) => this.#admitted(kind, object)),
      ),
      lists: this.#lists,
      watches: this.#watches,
      tokens: createTokens(
        this.#store,
        this.knobs,
        () => this.#clock.now(),
        options.issuer,
        (ms) => this.#clock.sleep(ms),
      ),
      emptyLists: () => this.knobs.emptyLists,
    };
    this.#store.onChange((kind, change) => this.#watches.dispatch(kind, change));
  }

  async listen(port: number, transport: Transport): Promise<void> {
    const handle = (request: IncomingMessage, response: ServerResponse) => this.#handle(request, response);
    const remember = (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    };
    this.#server = await startServer(handle, port);
    this.#server.server.on('connection', remember);
    this.#transport = await startTransport(transport, this.#server.port, handle, remember);
    this.#knobChanged('bookmarkSeconds');
  }

  get url(): string {
    return this.#server?.url ?? '';
  }

  kubeconfig(token = 'system:anonymous'): string {
    const name = 'stand-in';
    const ca = this.#transport?.ca;
    const trust = ca
      ? { 'certificate-authority-data': Buffer.from(ca).toString('base64') }
      : { 'insecure-skip-tls-verify': true };
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name, cluster: { server: this.#transport?.url, ...trust } }],
      // Over TLS, kubectl prompts for a user's name where there is no token.
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: name, user: name, namespace: 'default' } }],
      'current-context': name,
    });
  }

  put<T extends object = KubernetesObject>(kindName: string, object: T): T {
    const kind = kindNamed(kindName);
    // Converted through JSON, as a client's request is: dates become text and undefined fields disappear.
    let copy = JSON.parse(JSON.stringify(object)) as KubernetesObject;
    let metadata = copy.metadata ?? {};
    if (!metadata.name) throw new Error(`${kindName}: an object to put needs metadata.name`);
    if (kind.namespaced) metadata.namespace ??= 'default';
    else delete metadata.namespace;
    const current = this.#store.find(kind, metadata.namespace ?? '', metadata.name);
    kind.defaults(copy);
    if (!current) {
      copy = this.#admitted(kind, copy);
      metadata = copy.metadata ?? {};
    }
    const identity = current ? objectOf(kind, current).metadata : this.#store.birth();
    const { uid, creationTimestamp } = identity;
    copy.metadata = { ...(uid ? { uid } : {}), ...(creationTimestamp ? { creationTimestamp } : {}), ...metadata };
    return objectOf(kind, this.#store.write(kind, copy)) as T;
  }

  admit(admission: Admission | undefined): void {
    this.#admission = admission;
  }

  putMany(kind: string, objects: Iterable<object>): void {
    for (const object of objects) this.put(kind, object);
  }

  get<T = KubernetesObject>(kindName: string, namespace: string, name: string): T | undefined {
    const kind = kindNamed(kindName);
    const entry = this.#store.find(kind, kind.namespaced ? namespace : '', name);
    return entry && (objectOf(kind, entry) as T);
  }

  list<T = KubernetesObject>(kindName: string, namespace?: string): T[] {
    const kind = kindNamed(kindName);
    const entries = this.#store.ordered(kind);
    const chosen = namespace === undefined ? entries : entries.filter((entry) => entry.namespace === namespace);
    return chosen.map((entry) => objectOf(kind, entry) as T);
  }

  remove(kindName: string, namespace: string, name: string): boolean {
    const kind = kindNamed(kindName);
    const entry = this.#store.find(kind, kind.namespaced ? namespace : '', name);
    if (entry) this.#store.erase(kind, entry);
    return entry !== undefined;
  }

  onChange(kindName: string, listener: (type: Change['type'], object: KubernetesObject) => void): void {
    const wanted = kindNamed(kindName);
    this.#store.onChange((kind, { type, entry }) => {
      if (kind === wanted) listener(type, objectOf(kind, entry));
    });
  }

  cutWatches(): void {
    this.#watches.cut();
  }

  expire(): void {
    this.#store.forget();
    this.#lists.forget();
  }

  openWatches(): number {
    return this.#watches.open;
  }

  openedConnections(): number {
    return this.#transport?.gate.opened ?? 0;
  }

  async close(): Promise<void> {
    this.#watches.close();
    await this.#transport?.close();
    await this.#server?.close();
  }

  #knobChanged(knob: keyof Knobs): void {
    if (knob === 'down' && this.knobs.down) {
      for (const socket of this.#sockets) if (socket !== this.#orderedBy) socket.destroy();
    }
    if (knob === 'silent') {
      if (this.knobs.silent === 'none') this.#transport?.gate.speak();
      else this.#transport?.gate.silence(this.knobs.silent === 'all');
    }
    if (knob === 'freezeWatches') this.#watches.freeze(this.knobs.freezeWatches);
    if (knob === 'seed') this.#random = randomSeries(this.knobs.seed);
    if (knob === 'bookmarkSeconds') {
      this.#watches.bookmarkEvery(this.knobs.bookmarkSeconds, () => this.#store.version);
    }
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', 'http://stand-in');
    try {
      if (url.pathname.startsWith('/__stack/')) {
        const turn = (wanted: Partial<Knobs>) => this.#turnKnobs(wanted, request.socket);
        return await answerOrder(this, turn, url.pathname, request, response);
      }
      if (sayGoaway(request, this.#random, this.knobs.goawayChance)) return;
      if (this.knobs.latencyMs > 0) await this.#clock.sleep(this.knobs.latencyMs);
      if (this.knobs.down) {
        breakConnection(request);
        return;
      }
      const asked = readRequest(request.method ?? '', url);
      if (!asked) return answerDiscovery(url.pathname, response);
      this.#count(asked);
      const { podListLatencyMs } = this.knobs;
      if (podListLatencyMs > 0 && asked.verb === 'list' && asked.kind.plural === 'pods') {
        await this.#clock.sleep(podListLatencyMs);
      }
      this.#refuseList(asked);
      this.#failAtRandom();
      this.#access(asked, request.headers.authorization);
      refuseWrite(asked, this.knobs);
      await answer(this.#rooms, asked, request, response);
    } catch (error) {
      if (!(error instanceof StatusError)) throw error;
      if (error.code === 429) sendTooMany(response);
      else sendJson(response, error.code, error.body());
    }
  }

  #admitted(kind: Kind, object: KubernetesObject): KubernetesObject {
    return this.#admission ? this.#admission(kind.plural, object, this) : object;
  }

  #count({ verb, kind, subresource }: ApiRequest): void {
    const call = `${verb} ${kind.plural}${subresource ? `/${subresource}` : ''}`;
    this.calls.set(call, (this.calls.get(call) ?? 0) + 1);
  }

  #refuseList({ verb, kind }: ApiRequest): void {
    if ((verb === 'list' || verb === 'watch') && kind.plural === this.knobs.refuseListsOf) {
      throw new StatusError(503, `the stand-in was told to list no ${kind.plural}`);
    }
  }

  #failAtRandom(): void {
    const { failRate, failStatus } = this.knobs;
    if (failRate > 0 && this.#random() < failRate) throw new StatusError(failStatus, 'the stand-in was told to fail');
  }

  #turnKnobs(wanted: Partial<Knobs>, by: Socket): void {
    this.#orderedBy = by;
    try {
      Object.assign(this.knobs, wanted);
    } finally {
      this.#orderedBy = undefined;
    }
  }
}
