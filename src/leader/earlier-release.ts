/** Owns the look-out for release 1.8, whose Deployment would write the same trust policies: while it runs, we write nothing. */

import type { Kubernetes } from '../kubernetes/client.ts';
import { KubernetesError } from '../kubernetes/transport.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface PredecessorOptions {
  kubernetes: Pick<Kubernetes, 'getDeployment'>;
  /** What 1.8's Deployment is called in the field namespace. */
  deployment: string;
  clock: Clock;
  log: Log;
}

export interface Predecessor {
  /**
   * Does `work` for as long as 1.8 has no replicas and `signal` is not aborted: it waits for 1.8 to end, aborts the work's
   * signal where 1.8 appears, and begins anew when it is gone. Rejects where the work does.
   */
  without(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

const lookMs = 10_000;
const retryMs = 1_000;

/** IAM has no compare-and-set: two writers take out each other's runs. Helm 3's rollback can leave 1.8 beside this release. */
export function createPredecessor({ kubernetes, deployment, clock, log }: PredecessorOptions): Predecessor {
  let known: boolean | undefined;
  let isForbidden = false;

  function tell(runs: boolean): void {
    if (runs && !known)
      log.error({ deployment }, 'release 1.8 runs beside this one: nothing is written until it is gone');
    if (!runs && known) log.info({ deployment }, 'release 1.8 is gone: trust policies are written again');
    known = runs;
  }

  /** @returns undefined where nothing has been learnt yet. */
  async function look(): Promise<boolean | undefined> {
    try {
      const found = await kubernetes.getDeployment(deployment);
      tell(found !== undefined && !found.isOurs && found.replicas > 0);
    } catch (error) {
      // Where an operator keeps the permissions, and this one is not among them, we go on as before there was it.
      if (error instanceof KubernetesError && error.status === 403) {
        if (!isForbidden)
          log.warn({ err: error }, 'whether release 1.8 runs cannot be seen: get on its Deployment is lacking');
        isForbidden = true;
        tell(false);
      } else log.info({ err: error, deployment }, 'whether release 1.8 runs could not be seen; looking again');
    }
    return known;
  }

  async function endWhenFound(ending: AbortController, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await clock.sleep(lookMs, signal);
      if (!signal.aborted && (await look())) ending.abort();
    }
  }

  return {
    without: async (signal, work) => {
      while (!signal.aborted) {
        const runs = await look();
        if (runs !== false) {
          await clock.sleep(runs ? lookMs : retryMs, signal);
          continue;
        }
        const ending = new AbortController();
        const until = AbortSignal.any([signal, ending.signal]);
        const looking = endWhenFound(ending, until);
        try {
          if (!until.aborted) await work(until);
        } finally {
          ending.abort();
          await looking;
        }
      }
    },
  };
}
