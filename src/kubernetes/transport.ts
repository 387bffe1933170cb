/** Owns calls to the Kubernetes API server: their deadlines, retries and errors. */
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
  /** Milliseconds for the call with all its retries; 10 s where left out. */
  deadlineMs?: number;
  /** Marks a call as safe to retry although it is not a GET. */
  canRunTwice?: boolean;
}

export interface KubernetesApi {
  /**
   * Makes one call, and returns its answer as plain JSON.
   * @throws KubernetesError
   */
  call<T>(method: keyof typeof HttpMethod, path: string, options?: CallOptions): Promise<T>;
  /**
   * Opens a watch.
   * @param signal ends the watch. @returns its lines, while the API server sends them. @throws KubernetesError
   */
  watch(path: string, query: Query, signal: AbortSignal): Promise<Readable>;
  /** False when requests have gone without an answer for 10 s. */
  isAnswering(): boolean;
  /** Closes all connections. */
  close(): void;
}

const callDeadlineMs = 10_000;
/** Few where no connection can be opened, so that the caller gets the error soon. */
const maxTries: Readonly<Record<Fate, number>> = { unsent: 3, lost: 3, refused: 20 };
const firstPauseMs = 25;
const longestPauseMs = 400;

/**
 * Sends and returns plain JSON, with the client library's credentials. The library's typed calls create class
 * instances, which takes seconds and memory for 10,000 pods; its transport keeps a dead connection for minutes.
 */
export function createKubernetesApi(kubeConfig: KubeConfig, clock: Clock): KubernetesApi {
  const connection = createKubernetesConnection(kubeConfig, clock);

  /** One attempt. @throws NoAnswerError */
  async function ask(sent: Sent): Promise<{ status: number; retryAfter: string | undefined; body: string }> {
    const { status, retryAfter, body } = await connection.send(sent);
    try {
      return { status, retryAfter, body: await textOf(body) };
    } catch (cause) {
      // With a status of 400 or more the API server did nothing, and the status is enough. Go's server resets the
      // stream of a request whose body it did not read, which can cut off the answer's body.
      if (status >= 400) return { status, retryAfter, body: '' };
      throw new NoAnswerError('lost', new Error(`the answer ${status} broke off`, { cause }));
    }
  }

  /**
   * Retries requests that certainly were not processed, that change nothing, or that cannot take effect twice: writes
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
        // The 404 or 409 may come from what the lost attempt did, so the outcome of the call is not known.
        if (lost && sent.method !== 'GET' && (status === 404 || status === 409)) throw lost;
        // Too many requests, or an API server that shuts down: it did not process this request.
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

/** Whether the write has a resourceVersion, so that the API server refuses it after another write. */
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

/** The method and the object's path. The path of a POST names only the collection, and the body the object. */
function described(method: string, path: string, body: unknown): string {
  const { metadata } = ((method === 'POST' && body) || {}) as { metadata?: { name?: string; generateName?: string } };
  const name = metadata?.name ?? metadata?.generateName;
  return name === undefined ? `${method} ${path}` : `${method} ${path}/${name}`;
}
