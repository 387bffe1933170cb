/** Owns the hand-over of a proxy role to its owner: whether the leader still has to remove our statements from it. */
import type { Kubernetes } from '../kubernetes/client.ts';
import type { Log } from '../lib/log.ts';
import { removeAnnotation, type TrustStatuses } from './status.ts';

export interface HandOverDeps {
  kubernetes: Pick<Kubernetes, 'annotateConfigMap'>;
  statuses: Pick<TrustStatuses, 'get'>;
}

/** Records it on the role's status, where there is one. @throws KubernetesError */
export async function setRemoval({ kubernetes, statuses }: HandOverDeps, arn: string, isWanted: boolean) {
  const configMap = statuses.get(arn)?.configMap;
  if (configMap !== undefined) await kubernetes.annotateConfigMap(configMap, { [removeAnnotation]: String(isWanted) });
}

/** Records that the removal is done: from now on the role is only read, by later leaders too. It never rejects. */
export async function recordLeft(deps: HandOverDeps & { log: Log }, arn: string): Promise<void> {
  await setRemoval(deps, arn, false).catch((error: unknown) => {
    deps.log.warn(
      { err: error, role: arn },
      'the removal from a role that was handed over is done, but not recorded yet',
    );
  });
}
