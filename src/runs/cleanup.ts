/** Owns the leader's cleanup of ended runs: their role requests and their revocations. */

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

/** How old a request without a live pod has to be before it is cleared: the pod had time to appear. */
const endedRequestMs = 60_000;
/** The annotation is replaced, not removed: an account without one counts as let in by an earlier release. */
const clearedRequest = JSON.stringify({ cleared: true });

/** Clears requests without a live pod from accounts that still exist, so that no later run finds them there. */
export async function clearEndedRequests(options: Around, holds: () => boolean): Promise<void> {
  const { accounts, pods, clock, kubernetes, log } = options;
  const ended = (live: Pick<PodIndex, 'ofAccount'>) =>
    [...accounts.values()].filter(({ name, wanted }) => {
      const request = parseRoleRequest(wanted);
      return (
        request &&
        !hasLiveAsker(request, live.ofAccount(name)) &&
        clock.now() - Date.parse(request.at) >= endedRequestMs
      );
    });
  if (ended(pods).length === 0) return;
  // The caches may lack a live pod by mistake. Its request must not be cleared: the run would lose its roles until it asks again.
  const live = pods.isWhole() ? pods : await confirmedPods(kubernetes).catch(() => undefined);
  if (!live) return;
  for (const { name, resourceVersion } of ended(live)) {
    if (!holds()) return;
    await kubernetes.setWanted(name, clearedRequest, resourceVersion).catch((error: unknown) => {
      const about = { err: error, account: name };
      log[isRefused(error) ? 'error' : 'info'](
        about,
        'the request of an ended run was not cleared; trying again later',
      );
    });
  }
}

/** Removes the records of revoked runs that have ended. */
export async function forgetEndedRevocations({ revocations, pods, log }: Around): Promise<void> {
  await revocations.forgetEnded(pods).catch((error: unknown) => {
    log.info({ err: error }, 'the revocations of ended runs were not forgotten; trying again later');
  });
}
