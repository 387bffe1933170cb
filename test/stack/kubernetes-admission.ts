/** Owns mutating webhooks in the Kubernetes stand-in: functions that change objects at creation. */
import type { ApiRequest } from './kubernetes-api.ts';
import type { Kind, KubernetesObject } from './kubernetes-kinds.ts';
import type { Knobs } from './kubernetes-knobs.ts';
import { StatusError } from './kubernetes-status.ts';

/** The stored objects that a webhook may read. */
export interface Cluster {
  get<T = KubernetesObject>(kind: string, namespace: string, name: string): T | undefined;
  list<T = KubernetesObject>(kind: string, namespace?: string): T[];
}

/** Returns the object to store; `kind` is the plural. An error fails the creation. */
export type Admission = (kind: string, object: KubernetesObject, cluster: Cluster) => KubernetesObject;

/** Wraps the hook for creations through the API: failures get the API server's answer for a failed webhook. */
export function answeringAdmission(admit: (kind: Kind, object: KubernetesObject) => KubernetesObject) {
  return (kind: Kind, object: KubernetesObject): KubernetesObject => {
    try {
      return admit(kind, object);
    } catch (error) {
      if (error instanceof StatusError) throw error;
      const why = error instanceof Error ? error.message : String(error);
      throw new StatusError(500, `Internal error occurred: failed calling webhook: ${why}`);
    }
  };
}

/** Refuses all writes of a resource, as a quota, a policy or a webhook can. */
export function refuseWrite({ verb, kind }: ApiRequest, { refuseWritesOf, refusal }: Knobs): void {
  if (kind.plural !== refuseWritesOf || ['get', 'list', 'watch'].includes(verb)) return;
  const [code = '', ...words] = refusal.split(' ');
  throw new StatusError(Number(code), words.join(' '));
}
