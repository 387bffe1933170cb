/** Owns an administrator's wish to have a proxy role compared with IAM now, and the wait until the writer did it. */
import { randomUUID } from 'node:crypto';
import type { Clock } from './clock.ts';
import type { Kubernetes } from './kubernetes.ts';
import { KubernetesError, kubernetesUnavailable } from './kubernetes-api.ts';
import { isAtLeast } from './resource-version.ts';
import { untilPublished } from './status-wait.ts';
import type { TrustStatuses } from './trust-status.ts';
import { compareAnnotation } from './trust-status.ts';

export interface ComparisonDeps {
  kubernetes: Pick<Kubernetes, 'annotateConfigMap'>;
  statuses: TrustStatuses;
  clock: Clock;
}

const maxWaitMs = 5_000;

/**
 * Asks the writer to compare the role with IAM, and waits until its status says that it was done.
 * @returns false where nothing is published of the role yet, or the writer did not say so within 5 s.
 * @throws ApiError `kubernetes_unavailable`
 */
export async function compareNow({ kubernetes, statuses, clock }: ComparisonDeps, roleArn: string): Promise<boolean> {
  const known = statuses.get(roleArn);
  if (!known) return false;
  let asked: string;
  try {
    const annotated = await kubernetes.annotateConfigMap(known.configMap, { [compareAnnotation]: randomUUID() });
    asked = annotated.resourceVersion;
  } catch (error) {
    // Withdrawn in the meantime: no mapping names the role any more.
    if (error instanceof KubernetesError && error.kind === 'not_found') return false;
    throw kubernetesUnavailable(error);
  }
  const failedBefore = known.status.error?.at;
  return untilPublished(statuses, clock, maxWaitMs, () => {
    const now = statuses.get(roleArn);
    if (now === undefined || !isAtLeast(now.resourceVersion, asked)) return false;
    // An id that somebody else put there after ours asks for a comparison that is later still. Where IAM refuses, that
    // is what the comparison found.
    const { compare_id: done, error } = now.status;
    return done === now.annotations[compareAnnotation] || (error !== undefined && error.at !== failedBefore);
  });
}
