/** Owns the transport to the Kubernetes API server: authentication, deadlines, and what went wrong in three words. */
import { createConfiguration, type HttpMethod, type KubeConfig, RequestContext } from '@kubernetes/client-node';
import { ApiError } from './errors.ts';

/** not_found 404; conflict 409; refused: asking again will not help; unavailable: it may. */
export type KubernetesErrorKind = 'not_found' | 'conflict' | 'refused' | 'unavailable';

export class KubernetesError extends Error {
  readonly kind: KubernetesErrorKind;
  readonly status: number | undefined;

  constructor(kind: KubernetesErrorKind, message: string, status?: number, cause?: unknown) {
    super(message, { cause });
    this.name = 'KubernetesError';
    this.kind = kind;
    this.status = status;
  }
}

/** The error as a client may see it: whatever went wrong between us and the API server, asking later may help. */
export function kubernetesUnavailable(cause: unknown): ApiError {
  return new ApiError('kubernetes_unavailable', 'The Kubernetes API server did not answer as it should. Try again.', {
    cause,
  });
}

export interface CallOptions {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  contentType?: string;
  /** Milliseconds until the call is given up; 10 s unless told. */
  deadlineMs?: number;
}

export interface KubernetesApi {
  readonly kubeConfig: KubeConfig;
  /**
   * One call, its answer as plain JSON.
   * @throws KubernetesError
   */
  call<T>(method: keyof typeof HttpMethod, path: string, options?: CallOptions): Promise<T>;
}

type Dispatcher = NonNullable<ReturnType<RequestContext['getDispatcher']>>;

/** How long connections are shared before the client's CA and certificates are read again. */
const dispatcherLifeMs = 10 * 60_000;

/**
 * Plain JSON in and out over the client library's own transport and credentials. The library's typed calls make class
 * instances of everything, which costs seconds and memory for a list of 10,000 pods.
 */
export function createKubernetesApi(kubeConfig: KubeConfig, monotonic: () => number): KubernetesApi {
  const { httpApi } = createConfiguration({});
  const server = kubeConfig.getCurrentCluster()?.server;
  if (!server) throw new Error('the Kubernetes configuration names no cluster');
  // The library makes a new dispatcher, and so a new TLS connection, for every request: one is kept and shared.
  let shared: { dispatcher: Dispatcher; since: number } | undefined;

  async function send(method: keyof typeof HttpMethod, path: string, options: CallOptions) {
    const context = new RequestContext(server + path, method as HttpMethod);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined) context.setQueryParam(name, String(value));
    }
    context.setHeaderParam('Accept', 'application/json');
    if (options.body !== undefined) {
      context.setHeaderParam('Content-Type', options.contentType ?? 'application/json');
      context.setBody(JSON.stringify(options.body));
    }
    context.setSignal(AbortSignal.timeout(options.deadlineMs ?? 10_000));
    await kubeConfig.applySecurityAuthentication(context);
    const fresh = context.getDispatcher();
    if (fresh) {
      if (!shared || monotonic() - shared.since > dispatcherLifeMs) shared = { dispatcher: fresh, since: monotonic() };
      context.setDispatcher(shared.dispatcher);
    }
    const response = await httpApi.send(context).toPromise();
    return { status: response.httpStatusCode, text: await response.body.text() };
  }

  return {
    kubeConfig,
    call: async <T>(method: keyof typeof HttpMethod, path: string, options: CallOptions = {}): Promise<T> => {
      let answer: { status: number; text: string };
      try {
        answer = await send(method, path, options);
      } catch (cause) {
        throw new KubernetesError('unavailable', `${method} ${path} had no answer`, undefined, cause);
      }
      const parsed = parseJson(answer.text);
      if (answer.status >= 200 && answer.status < 300 && parsed !== undefined) return parsed as T;
      throw new KubernetesError(
        kindOf(answer.status),
        `${method} ${path}: ${answer.status} ${messageOf(parsed)}`,
        answer.status,
      );
    },
  };
}

function kindOf(status: number): KubernetesErrorKind {
  if (status === 404) return 'not_found';
  if (status === 409) return 'conflict';
  // 401 and 403 come and go with token rotation and RBAC changes; like 429 and 5xx they are worth another try.
  if (status === 401 || status === 403 || status === 429 || status >= 500 || status < 300) return 'unavailable';
  return 'refused';
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function messageOf(parsed: unknown): string {
  const message = typeof parsed === 'object' && parsed !== null && 'message' in parsed ? parsed.message : undefined;
  return typeof message === 'string' ? message.slice(0, 300) : '';
}
