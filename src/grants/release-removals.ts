/** Owns an administrator's release of the removal guard of a proxy role. */
import type { Kubernetes } from '../kubernetes/client.ts';
import { orUnavailable, unlessMissing } from '../kubernetes/error.ts';
import type { Clock } from '../lib/clock.ts';
import { releaseAnnotation, statusName, type TrustStatus, trustStatusForm } from '../proxy-roles/status.ts';

/**
 * Lets the leader make the removals that the guard holds back.
 * @returns what was held; undefined where no status of the role is stored.
 * @throws ApiError `kubernetes_unavailable`
 */
export async function releaseRemovals(
  role: string,
  { kubernetes, clock }: { kubernetes: Pick<Kubernetes, 'getConfigMap' | 'annotateConfigMap'>; clock: Clock },
): Promise<{ guard: TrustStatus['brake'] } | undefined> {
  // Read from the API server itself: the guard exists for caches that are wrong.
  const known = await orUnavailable(() => kubernetes.getConfigMap(statusName(role)));
  const guard = known && trustStatusForm.parse(known.data)?.brake;
  if (!known || !guard) return known && { guard: undefined };
  // The leader's clock may be ahead of ours: the release must not be older than the hold that it releases.
  const at = new Date(Math.max(clock.now(), Date.parse(guard.since))).toISOString();
  const release = () => kubernetes.annotateConfigMap(known.name, { [releaseAnnotation]: at });
  await orUnavailable(() => unlessMissing(release));
  return { guard };
}
