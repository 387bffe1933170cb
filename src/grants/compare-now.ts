/** Owns requesting a comparison of a proxy role with IAM, and the wait until the leader has made it. */
import { randomUUID } from 'node:crypto';
import type { Kubernetes } from '../kubernetes/client.ts';
import { orUnavailable, unlessMissing } from '../kubernetes/error.ts';
import { isAtLeast } from '../kubernetes/resource-version.ts';
import type { Clock } from '../lib/clock.ts';
import { backgroundId, compareAnnotation, type TrustStatuses } from '../proxy-roles/status.ts';
import { untilPublished } from '../reconcile/status-store.ts';

export interface ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'annotateConfigMap'>;
  statuses: TrustStatuses;
  clock: Clock;
}

const maxWaitMs = 5_000;

/**
 * Asks the leader to compare the role with IAM, and waits until the role's status says that it did. A background comparison
 * gets no priority over waiting requests, and joins one that is already requested.
 * @returns false where the role has no status, or the leader took longer than `maxMs` (by default 5 s).
 * @throws ApiError `kubernetes_unavailable`
 */
export async function compareNow(
  { kubernetes, statuses, clock }: ComparisonDeps,
  roleArn: string,
  { background = false, maxMs = maxWaitMs }: { background?: boolean; maxMs?: number } = {},
): Promise<boolean> {
  const known = statuses.get(roleArn);
  if (!known) return false;
  let asked = known.resourceVersion;
  const isAsked = (known.annotations[compareAnnotation] ?? known.status.compare_id) !== known.status.compare_id;
  if (!background || !isAsked) {
    const id = background ? backgroundId(randomUUID()) : randomUUID();
    const ask = () => kubernetes.annotateConfigMap(known.configMap, { [compareAnnotation]: id });
    const annotated = await orUnavailable(() => unlessMissing(ask));
    // The status was withdrawn meanwhile: no mapping names the role any more.
    if (!annotated) return false;
    asked = annotated.resourceVersion;
  }
  const failedBefore = known.status.error?.at;
  return untilPublished(statuses, clock, maxMs, () => {
    const now = statuses.get(roleArn);
    if (now === undefined || !isAtLeast(now.resourceVersion, asked)) return false;
    // Another request may have replaced our id: its comparison is later, and counts as well. An error of IAM is the result
    // of a comparison, too.
    const { compare_id: done, error } = now.status;
    return done === now.annotations[compareAnnotation] || (error !== undefined && error.at !== failedBefore);
  });
}
