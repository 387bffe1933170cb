/** Owns what the writer does beside trust policies: dead wants, ended revocations, and Events for who looks at the cluster. */
import type { Clock } from './clock.ts';
import type { Drift } from './drift.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import type { Revocations } from './revocations.ts';
import type { PodIndex } from './runs.ts';
import { askersOf, parseWant } from './wants.ts';

interface Around {
  kubernetes: Pick<Kubernetes, 'setWanted'>;
  accounts: Pick<Watched<ServiceAccount>, 'values'>;
  pods: PodIndex;
  revocations: Pick<Revocations, 'forgetEnded'>;
  clock: Clock;
  log: Log;
}

/** A want without a live pod is cleared from an account that lives on, once the pod had time to appear. */
const deadWantMs = 60_000;
/** Not the lack of an annotation, which would say that an earlier release let the account in. */
const clearedWant = JSON.stringify({ cleared: true });

/** Takes wants without a live pod off accounts that live on, so that no later run finds them there. */
export async function clearDeadWants(options: Around, holds: () => boolean): Promise<void> {
  const { accounts, pods, clock, kubernetes, log } = options;
  for (const { name, wanted, resourceVersion } of [...accounts.values()]) {
    const want = parseWant(wanted);
    const askers = want ? askersOf(want) : new Set<string>();
    const alive = pods.ofAccount(name).some(({ run }) => run !== undefined && askers.has(run));
    if (!want || alive || clock.now() - Date.parse(want.at) < deadWantMs) continue;
    if (!holds()) return;
    await kubernetes.setWanted(name, clearedWant, resourceVersion).catch((error: unknown) => {
      log.info({ err: error, account: name }, 'the want of an ended run was not cleared; trying again later');
    });
  }
}

/** Takes away the records of runs that were shut out and have ended. */
export async function forgetEndedRevocations({ revocations, pods, log }: Around): Promise<void> {
  await revocations.forgetEnded(pods).catch((error: unknown) => {
    log.info({ err: error }, 'the revocations of ended runs were not forgotten; trying again later');
  });
}

/** What somebody else changed, and the ConfigMap of ours that an Event of it is on. */
export interface Changed {
  configMap: string | undefined;
  reason: 'TrustPolicyChanged' | 'PodIdentityChanged';
  /** `The trust policy of arn:…` */
  what: string;
}

/** An Event for who looks at the cluster and not at our log. */
export function tellOfDrift(
  { kubernetes, log }: { kubernetes: Pick<Kubernetes, 'createEvent'>; log: Log },
  { configMap, reason, what }: Changed,
  drift: Drift,
  pauseMs: number,
): void {
  if (configMap === undefined) return;
  const pause = pauseMs > 0 ? `; it keeps happening, so the repair waits ${pauseMs / 1000} s` : '';
  const message = `${what} was changed by somebody else: ${drift.missing.length} of ours missing, ${drift.extra.length} too many${pause}.`;
  kubernetes.createEvent({ configMap, type: 'Warning', reason, message }).catch((error: unknown) => {
    log.info({ err: error }, 'the event was not recorded');
  });
}
