/** Owns what a mutating webhook is to the Kubernetes stand-in: a function on objects that are created. */
import type { ApiRequest } from './kubernetes-api.ts';
import type { Kind, KubernetesObject } from './kubernetes-kinds.ts';
import type { Knobs } from './kubernetes-knobs.ts';
import { StatusError } from './kubernetes-status.ts';

/** What stored objects a webhook may look at. */
export interface Cluster {
  get<T = KubernetesObject>(kind: string, namespace: string, name: string): T | undefined;
  list<T = KubernetesObject>(kind: string, namespace?: string): T[];
}

/** The object to store; `kind` is the plural. Whatever it throws fails the creation. */
export type Admission = (kind: string, object: KubernetesObject, cluster: Cluster) => KubernetesObject;

/** The hook for creations by the API: its failures are answered as the API server answers those of a webhook. */
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

/** What a quota, a policy or a webhook does that refuses all writes of a resource. */
export function refuseWrite({ verb, kind }: ApiRequest, { refuseWritesOf, refusal }: Knobs): void {
  if (kind.plural !== refuseWritesOf || ['get', 'list', 'watch'].includes(verb)) return;
  const [code = '', ...words] = refusal.split(' ');
  throw new StatusError(Number(code), words.join(' '));
}
