/** Owns what the leader clears up: role requests of ended runs, and their revocations. */

import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import { isRefused } from '../kubernetes/transport.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { hasLiveAsker } from './effective-request.ts';
import type { Revocations } from './revocations.ts';
import { parseRoleRequest } from './role-request.ts';
import { confirmedPods, type PodIndex } from './runs.ts';

interface Around {
  kubernetes: Pick<Kubernetes, 'setWanted' | 'listPods' | 'listServiceAccounts'>;
  accounts: Pick<Watched<ServiceAccount>, 'values'>;
  pods: PodIndex;
  revocations: Pick<Revocations, 'forgetEnded'>;
  clock: Clock;
  log: Log;
}

/** A want without a live pod is cleared from an account that lives on, once the pod had time to appear. */
const endedRequestMs = 60_000;
/** Not the lack of an annotation, which would say that an earlier release let the account in. */
const clearedRequest = JSON.stringify({ cleared: true });

/** Takes wants without a live pod off accounts that live on, so that no later run finds them there. */
export async function clearEndedRequests(options: Around, holds: () => boolean): Promise<void> {
  const { accounts, pods, clock, kubernetes, log } = options;
  const ended = (live: Pick<PodIndex, 'ofAccount'>) =>
    [...accounts.values()].filter(({ name, wanted }) => {
      const want = parseRoleRequest(wanted);
      return want && !hasLiveAsker(want, live.ofAccount(name)) && clock.now() - Date.parse(want.at) >= endedRequestMs;
    });
  if (ended(pods).length === 0) return;
  // What was lost by mistake must not be cleared: its run would have its roles no more until it asks again.
  const live = pods.isWhole() ? pods : await confirmedPods(kubernetes).catch(() => undefined);
  if (!live) return;
  for (const { name, resourceVersion } of ended(live)) {
    if (!holds()) return;
    await kubernetes.setWanted(name, clearedRequest, resourceVersion).catch((error: unknown) => {
      const about = { err: error, account: name };
      log[isRefused(error) ? 'error' : 'info'](about, 'the want of an ended run was not cleared; trying again later');
    });
  }
}

/** Takes away the records of runs that were shut out and have ended. */
export async function forgetEndedRevocations({
  revocations,
  pods,
  roleTokenSeconds,
  log,
}: Pick<Around, 'revocations' | 'pods' | 'log'> & { roleTokenSeconds: number }): Promise<void> {
  await revocations.forgetEnded(pods, roleTokenSeconds * 1000).catch((error: unknown) => {
    log.info({ err: error }, 'the revocations of ended runs were not forgotten; trying again later');
  });
}
