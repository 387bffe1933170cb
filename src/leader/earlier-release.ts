/** Owns the check for release 1.8, which would write the same trust policies: while it runs, this release does not. */

import type { Kubernetes } from '../kubernetes/client.ts';
import { KubernetesError } from '../kubernetes/transport.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface PredecessorOptions {
  kubernetes: Pick<Kubernetes, 'getDeployment'>;
  /** The name of 1.8's Deployment in the field namespace. */
  deployment: string;
  clock: Clock;
  log: Log;
}

export interface Predecessor {
  /**
   * Runs `work` while 1.8 has no replicas, until `signal` is aborted. It waits for 1.8 to end, aborts the work's signal
   * when 1.8 appears, and starts the work again when 1.8 is gone. Rejects when the work does.
   */
  without(signal: AbortSignal, work: (signal: AbortSignal) => Promise<void>): Promise<void>;
}

const lookMs = 10_000;
const retryMs = 1_000;

/** IAM has no compare-and-set: two writers remove each other's runs. A rollback by Helm 3 can leave 1.8 running. */
export function createPredecessor({ kubernetes, deployment, clock, log }: PredecessorOptions): Predecessor {
  let known: boolean | undefined;
  let isForbidden = false;

  function note(runs: boolean): void {
    if (runs && !known)
      log.error({ deployment }, 'release 1.8 runs beside this one: nothing is written until it is gone');
    if (!runs && known) log.info({ deployment }, 'release 1.8 is gone: trust policies are written again');
    known = runs;
  }

  /** @returns whether 1.8 runs; the last answer where the look-up failed, undefined where none has worked yet. */
  async function look(): Promise<boolean | undefined> {
    try {
      const found = await kubernetes.getDeployment(deployment);
      note(found !== undefined && !found.isOurs && found.replicas > 0);
    } catch (error) {
      // Operators who maintain RBAC themselves may not grant this permission. Then the leader writes without the check.
      if (error instanceof KubernetesError && error.status === 403) {
        if (!isForbidden)
          log.warn({ err: error }, 'cannot tell whether release 1.8 runs: no permission to get its Deployment');
        isForbidden = true;
        note(false);
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
