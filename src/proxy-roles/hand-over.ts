/** Owns the record that a role which is kept elsewhere from now on was left without what is ours, as an administrator asked. */
import type { Kubernetes } from '../kubernetes/client.ts';
import type { Log } from '../lib/log.ts';
import { removeAnnotation, type TrustStatuses } from './status.ts';

export interface HandOverDeps {
  kubernetes: Pick<Kubernetes, 'annotateConfigMap'>;
  statuses: Pick<TrustStatuses, 'get'>;
  log: Log;
}

/** From then on no leader takes anything out of the role: what looks like ours there is its owner's. It never rejects. */
export async function recordLeft({ kubernetes, statuses, log }: HandOverDeps, arn: string): Promise<void> {
  const configMap = statuses.get(arn)?.configMap;
  if (configMap === undefined) return;
  await kubernetes.annotateConfigMap(configMap, { [removeAnnotation]: 'false' }).catch((error: unknown) => {
    log.warn({ err: error, role: arn }, 'that nothing of ours is left in this role is not on record yet');
  });
}
