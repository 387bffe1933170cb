/** Owns calls to the Kubernetes API server: deadlines, what is tried again, and what went wrong in three words. */
import type { Readable } from 'node:stream';
import type { HttpMethod, KubeConfig } from '@kubernetes/client-node';
import type { Clock } from '../lib/clock.ts';
import { type Fate, NoAnswerError, type Sent, textOf } from './answer.ts';
import { createKubernetesConnection } from './connection.ts';
import { KubernetesError, kindOf, saidBy } from './error.ts';

export { isRefused, KubernetesError, type KubernetesErrorKind, kubernetesUnavailable } from './error.ts';

export type Query = Readonly<Record<string, string | number | undefined>>;

export interface CallOptions {
  query?: Query;
  body?: unknown;
  contentType?: string;
  /** Milliseconds until the call is given up, with all its tries; 10 s unless told. */
  deadlineMs?: number;
  /** A call that changes nothing, though it is no GET. */
  canRunTwice?: boolean;
}

export interface KubernetesApi {
  /**
   * One call, its answer as plain JSON.
   * @throws KubernetesError
   */
  call<T>(method: keyof typeof HttpMethod, path: string, options?: CallOptions): Promise<T>;
  /**
   * Opens a watch.
   * @param signal ends it. @returns its lines, for as long as the API server sends them. @throws KubernetesError
   */
  watch(path: string, query: Query, signal: AbortSignal): Promise<Readable>;
  /** False when the API server has not answered for seconds, though it was asked. */
  isAnswering(): boolean;
  /** Ends all connections. */
  close(): void;
}

const callDeadlineMs = 10_000;
/** Where there is no connection to be had, who asked is told soon. */
const maxTries: Readonly<Record<Fate, number>> = { unsent: 3, lost: 3, refused: 20 };
const firstPauseMs = 25;
const longestPauseMs = 400;

/**
 * Plain JSON in and out, with the client library's credentials. The library's typed calls make class instances of
 * everything, which costs seconds and memory for a list of 10,000 pods; its transport keeps a dead connection for minutes.
 */
export function createKubernetesApi(kubeConfig: KubeConfig, clock: Clock): KubernetesApi {
  const connection = createKubernetesConnection(kubeConfig, clock);

  /** One try. @throws NoAnswerError */
  async function ask(sent: Sent): Promise<{ status: number; retryAfter: string | undefined; body: string }> {
    const { status, retryAfter, body } = await connection.send(sent);
    try {
      return { status, retryAfter, body: await textOf(body) };
    } catch (cause) {
      // A refusal says by its status alone that the API server did nothing. Go's server resets the stream of a request whose
      // body it did not read, which can cut off the answer's body.
      if (status >= 400) return { status, retryAfter, body: '' };
      throw new NoAnswerError('lost', new Error(`the answer ${status} broke off`, { cause }));
    }
  }

  /**
   * Tries again what certainly did not run, what changes nothing, and what cannot take effect twice: a write that is
   * guarded by a resourceVersion. @throws NoAnswerError
   */
  async function send(sent: Sent, deadlineMs: number) {
    const until = clock.monotonic() + deadlineMs;
    let lost: NoAnswerError | undefined;
    for (let tries = 1; ; tries += 1) {
      const answer = await ask(sent).catch((error: unknown) => {
        if (error instanceof NoAnswerError) return error;
        throw error;
      });
      let pause = Math.min(longestPauseMs, firstPauseMs * 2 ** tries) * (0.5 + Math.random() / 2);
      if (answer instanceof NoAnswerError) {
        const { fate } = answer;
        if (fate === 'lost') lost = answer;
        const isLast = tries >= maxTries[fate] || sent.signal.aborted;
        if (isLast || (fate === 'lost' && !sent.canRunTwice)) throw answer;
      } else {
        const { status, retryAfter } = answer;
        // What stands against a second try may be what the first one did: which it was is not known.
        if (lost && sent.method !== 'GET' && (status === 404 || status === 409)) throw lost;
        // Too many requests, or an API server that ends: it did not look at this one.
        if (status !== 429 || tries > 1 || !(Number(retryAfter) >= 0)) return answer;
        pause += Number(retryAfter) * 1000;
        if (clock.monotonic() + pause > until) return answer;
      }
      await clock.sleep(pause, sent.signal);
    }
  }

  return {
    isAnswering: connection.isAnswering,
    close: connection.close,
    call: async <T>(method: keyof typeof HttpMethod, path: string, options: CallOptions = {}): Promise<T> => {
      const { body, contentType = 'application/json', deadlineMs = callDeadlineMs } = options;
      const sent: Sent = {
        method,
        path: path + queryOf(options.query),
        headers: { accept: 'application/json', ...(body === undefined ? {} : { 'content-type': contentType }) },
        body: body === undefined ? undefined : JSON.stringify(body),
        signal: AbortSignal.timeout(deadlineMs),
        isWatch: false,
        canRunTwice:
          options.canRunTwice ?? (method === 'GET' || options.query?.dryRun !== undefined || isGuarded(body)),
      };
      const what = described(method, path, body);
      const answer = await send(sent, deadlineMs).catch((cause: unknown) => {
        throw new KubernetesError('unavailable', `${what} had no answer`, undefined, cause, '', what);
      });
      const parsed = parseJson(answer.body);
      if (answer.status >= 200 && answer.status < 300 && parsed !== undefined) return parsed as T;
      const { status } = answer;
      const said = saidBy(parsed);
      const kind = kindOf(status, said, method !== 'GET');
      throw new KubernetesError(kind, `${what}: ${[status, said].join(' ').trim()}`, status, undefined, said, what);
    },
    watch: async (path, query, signal) => {
      const opening = new AbortController();
      const late = () => opening.abort(new DOMException('the watch was not opened in time', 'TimeoutError'));
      const timer = setTimeout(late, callDeadlineMs);
      const both = AbortSignal.any([opening.signal, signal]);
      const headers = { accept: 'application/json' };
      const asked = { ...query, watch: 'true', allowWatchBookmarks: 'true' };
      const sent = {
        method: 'GET',
        path: path + queryOf(asked),
        headers,
        body: undefined,
        signal: both,
        isWatch: true,
        canRunTwice: true,
      };
      const answer = await connection
        .send(sent)
        .catch((cause: unknown) => {
          throw new KubernetesError('unavailable', `the watch of ${path} had no answer`, undefined, cause);
        })
        .finally(() => clearTimeout(timer));
      if (answer.status === 200) return answer.body;
      answer.body.on('error', () => undefined).destroy();
      throw new KubernetesError('unavailable', `the watch of ${path}: ${answer.status}`, answer.status);
    },
  };
}

function queryOf(query: Query = {}): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  return given.size === 0 ? '' : `?${given}`;
}

/** Whether the API server refuses it where something else was written since. */
function isGuarded(body: unknown): boolean {
  const { metadata, preconditions } = (body ?? {}) as Record<string, { resourceVersion?: string } | undefined>;
  return (metadata ?? preconditions)?.resourceVersion !== undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The call by its object: the path of a creation names the collection alone, and the body the object. */
function described(method: string, path: string, body: unknown): string {
  const { metadata } = ((method === 'POST' && body) || {}) as { metadata?: { name?: string; generateName?: string } };
  const name = metadata?.name ?? metadata?.generateName;
  return name === undefined ? `${method} ${path}` : `${method} ${path}/${name}`;
}
