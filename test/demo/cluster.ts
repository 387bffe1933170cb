/** Owns the actions of the demo's people in the cluster outside this service, as with kubectl. */
import { CoreV1Api, CustomObjectsApi, KubeConfig, type V1ServiceAccount } from '@kubernetes/client-node';
import type { StackProcess } from '../stack/processes.ts';

export interface Mutation {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace: string; readonly resourceVersion?: string };
  readonly rules: readonly { readonly cloudWorkloadIdentity?: { readonly user_mappings: Record<string, string> } }[];
}

export interface DemoCluster {
  /** Undefined where there is none. */
  mutation(name: string): Promise<Mutation | undefined>;
  /** `kubectl apply` of an existing object: these rules replace all others. */
  replaceRules(name: string, rules: Mutation['rules']): Promise<void>;
  serviceAccount(name: string): Promise<V1ServiceAccount | undefined>;
  /** Names of pods that use the service account. */
  podsOf(account: string): Promise<string[]>;
  /** The messages of Events with this reason. */
  events(reason: string): Promise<string[]>;
  /** The number of ConfigMaps with this label in the field namespace. */
  configMaps(label: string): Promise<number>;
}

const domsed = { group: 'apps.dominodatalab.com', version: 'v1alpha1', plural: 'mutations' };
const platform = { ...domsed, namespace: 'domino-platform' };

export function demoCluster({ kubeconfig }: Pick<StackProcess, 'kubeconfig'>): DemoCluster {
  const config = new KubeConfig();
  config.loadFromString(kubeconfig);
  const core = config.makeApiClient(CoreV1Api);
  const custom = config.makeApiClient(CustomObjectsApi);
  const mutation = async (name: string) =>
    (await found(custom.getNamespacedCustomObject({ ...platform, name }))) as Mutation | undefined;

  return {
    mutation,
    replaceRules: async (name, rules) => {
      const body = { ...(await mutation(name)), rules };
      await custom.replaceNamespacedCustomObject({ ...platform, name, body });
    },
    serviceAccount: (name) => found(core.readNamespacedServiceAccount({ namespace: 'domino-compute', name })),
    podsOf: async (account) => {
      const fieldSelector = `spec.serviceAccountName=${account}`;
      const { items } = await core.listNamespacedPod({ namespace: 'domino-compute', fieldSelector });
      return items.map(({ metadata }) => metadata?.name ?? '');
    },
    events: async (reason) => {
      const { items } = await core.listNamespacedEvent({
        namespace: 'domino-field',
        fieldSelector: `reason=${reason}`,
      });
      return items.map(({ message }) => message ?? '');
    },
    configMaps: async (labelSelector) =>
      (await core.listNamespacedConfigMap({ namespace: 'domino-field', labelSelector })).items.length,
  };
}

async function found<T>(asked: Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    if ((error as { code?: number }).code === 404) return undefined;
    throw error;
  }
}
