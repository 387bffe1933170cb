/** Owns how many replicas the service has: what its own Deployment says, read when somebody asks and shared for some seconds. */
import type { Kubernetes } from '../kubernetes/client.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface Replicas {
  /** Those that answer, as Kubernetes sees it. */
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
/** The rest of the answer is from memory, and does not wait longer for an API server that is away. */
const patienceMs = 1_000;

/**
 * Nobody keeps the count up to date: it costs a call where somebody looks, and nothing else.
 * @returns undefined where it is not known: no Deployment is named, it cannot be read, or it is not this release's.
 */
export function createReplicaCount({ kubernetes, config, clock, log }: ReplicasOptions) {
  const { deployment } = config;
  let shared: { at: number; count: Promise<Replicas | undefined> } | undefined;
  let isTold = false;

  async function read(name: string): Promise<Replicas | undefined> {
    try {
      const found = await kubernetes.getDeployment(name);
      isTold = false;
      return found?.isOurs ? { ready: found.ready, wanted: found.wanted } : undefined;
    } catch (error) {
      if (!isTold) log.info({ err: error, deployment }, 'how many replicas there are could not be read');
      isTold = true;
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
