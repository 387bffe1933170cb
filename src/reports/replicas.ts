/** Owns the number of the service's replicas: read from its own Deployment on request, and shared for some seconds. */
import type { Kubernetes } from '../kubernetes/client.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface Replicas {
  /** The replicas that are ready, as Kubernetes sees it. */
  ready: number;
  wanted: number;
}

export interface ReplicasOptions {
  kubernetes: Pick<Kubernetes, 'getDeployment'>;
  config: { deployment?: string };
  clock: Clock;
  log: Log;
}

const freshMs = 5_000;
/** How long the answer, whose other parts are from memory, waits for the API server. */
const patienceMs = 1_000;

/**
 * The count is not watched: it costs a call when it is requested, and nothing else.
 * @returns undefined where it is not known: no Deployment is named, it cannot be read, or it is not this release's.
 */
export function createReplicaCount({ kubernetes, config, clock, log }: ReplicasOptions) {
  const { deployment } = config;
  let shared: { at: number; count: Promise<Replicas | undefined> } | undefined;
  let isLogged = false;

  async function read(name: string): Promise<Replicas | undefined> {
    try {
      const found = await kubernetes.getDeployment(name);
      isLogged = false;
      return found?.isOurs ? { ready: found.ready, wanted: found.wanted } : undefined;
    } catch (error) {
      if (!isLogged) log.info({ err: error, deployment }, 'how many replicas there are could not be read');
      isLogged = true;
      return undefined;
    }
  }

  return async (): Promise<Replicas | undefined> => {
    if (deployment === undefined) return undefined;
    const now = clock.monotonic();
    if (!shared || now - shared.at > freshMs) shared = { at: now, count: read(deployment) };
    const answered = new AbortController();
    try {
      return await Promise.race([shared.count, clock.sleep(patienceMs, answered.signal).then(() => undefined)]);
    } finally {
      answered.abort();
    }
  };
}
