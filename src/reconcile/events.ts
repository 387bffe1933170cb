/** Owns the Kubernetes Events that report external changes. */
import type { Kubernetes } from '../kubernetes/client.ts';
import { isRefused } from '../kubernetes/transport.ts';
import type { Log } from '../lib/log.ts';
import type { Drift } from './drift.ts';

/** What was changed externally, and the ConfigMap of ours that the Event is attached to. */
export interface Changed {
  configMap: string | undefined;
  reason: 'TrustPolicyChanged' | 'PodIdentityChanged';
  /** `The trust policy of arn:…` */
  what: string;
}

/** Records an Event, for people who look at the cluster and not at our log. */
export function recordEvent(
  { kubernetes, log }: { kubernetes: Pick<Kubernetes, 'createEvent'>; log: Log },
  { configMap, reason, what }: Changed,
  drift: Drift,
  pauseMs: number,
): void {
  if (configMap === undefined) return;
  const pause = pauseMs > 0 ? `; it keeps happening, so the repair waits ${pauseMs / 1000} s` : '';
  const message = `${what} was changed externally: ${drift.missing.length} entries removed, ${drift.extra.length} added${pause}.`;
  kubernetes.createEvent({ configMap, type: 'Warning', reason, message }).catch((error: unknown) => {
    log[isRefused(error) ? 'warn' : 'info']({ err: error }, 'the event was not recorded');
  });
}
