/** Owns what we read and write in Kubernetes: pods, service accounts, ConfigMaps and the lease, as plain values. */
import {
  type KubernetesObject,
  PatchStrategy,
  type V1ConfigMap,
  type V1Lease,
  type V1ServiceAccount,
} from '@kubernetes/client-node';
import type { Clock } from './clock.ts';
import { type KubernetesApi, KubernetesError } from './kubernetes-api.ts';
import {
  type ConfigMap,
  type EventNote,
  executionIdLabel,
  installationLabel,
  type LeaseRecord,
  type Mutation,
  madeForAnnotation,
  managedBy,
  managedByLabel,
  type Pod,
  type ServiceAccount,
  toConfigMap,
  toLease,
  toMutation,
  toPod,
  toServiceAccount,
} from './kubernetes-objects.ts';
import { listPages, type Watched, watchList } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { wantedAnnotation } from './wants.ts';

export type { ConfigMap, EventNote, LeaseRecord, Mutation, Pod, ServiceAccount } from './kubernetes-objects.ts';

const mutationVersion = 'apps.dominodatalab.com/v1alpha1';
const mergePatch = PatchStrategy.MergePatch;

/** All of it may throw KubernetesError. RBAC: see the verb beside each. */
export interface Kubernetes {
  /** pods: list, watch (compute) */
  watchPods(): Watched<Pod>;
  /** serviceaccounts: list, watch (compute) */
  watchServiceAccounts(): Watched<ServiceAccount>;
  /** configmaps: list, watch (field) */
  watchConfigMap(name: string): Watched<ConfigMap>;
  watchConfigMaps(label: string): Watched<ConfigMap>;
  /** Straight from the API server. @param run 24 hex digits; all runs where it is left out. */
  listPods(run?: string): Promise<Pod[]>;
  listPodsOfAccount(account: string): Promise<Pod[]>;
  listServiceAccounts(): Promise<ServiceAccount[]>;
  /** serviceaccounts: patch (compute). @param resourceVersion refused with a conflict where it differs. */
  setWanted(account: string, wanted: string, resourceVersion: string): Promise<ServiceAccount>;
  /** serviceaccounts: create, get, delete (compute) */
  /** @param madeFor the Domino user whose Pod Identity needs it. */
  createServiceAccount(name: string, madeFor?: string): Promise<ServiceAccount>;
  getServiceAccount(name: string): Promise<ServiceAccount>;
  deleteServiceAccount(name: string, resourceVersion: string): Promise<void>;
  /** configmaps: get, create, patch, delete (field) */
  getConfigMap(name: string): Promise<ConfigMap | undefined>;
  createConfigMap(name: string, data: Record<string, string>, labels?: Record<string, string>): Promise<ConfigMap>;
  /** @param changes keys to set, or to take away with null. @param resourceVersion a conflict where it differs. */
  patchConfigMap(
    name: string,
    changes: Record<string, string | null>,
    resourceVersion: string,
    labels?: Record<string, string>,
  ): Promise<ConfigMap>;
  deleteConfigMap(name: string, resourceVersion: string): Promise<void>;
  annotateConfigMap(name: string, annotations: Record<string, string>): Promise<ConfigMap>;
  /** mutations.apps.dominodatalab.com: list, watch (platform) */
  watchMutation(name: string): Watched<Mutation>;
  /** mutations.apps.dominodatalab.com: get, create, patch, delete (platform). Each write says which installation's it is. */
  getMutation(name: string): Promise<Mutation | undefined>;
  createMutation(name: string, rules: unknown): Promise<Mutation>;
  /** @param resourceVersion a conflict where it differs. */
  patchMutation(name: string, rules: unknown, resourceVersion: string): Promise<Mutation>;
  deleteMutation(name: string, resourceVersion: string): Promise<void>;
  /** events: create (field) */
  createEvent(note: EventNote): Promise<void>;
  /** leases: get, create, update (field) */
  getLease(name: string, deadlineMs: number): Promise<LeaseRecord | undefined>;
  writeLease(
    name: string,
    lease: Omit<LeaseRecord, 'resourceVersion'>,
    resourceVersion: string | undefined,
    deadlineMs: number,
  ): Promise<LeaseRecord>;
}

export interface KubernetesOptions {
  api: KubernetesApi;
  fieldNamespace: string;
  computeNamespace: string;
  platformNamespace: string;
  clock: Clock;
  log: Log;
  onWatchRestart?: (resource: string) => void;
}

export function createKubernetes(options: KubernetesOptions): Kubernetes {
  const { api, clock, log } = options;
  const pods = `/api/v1/namespaces/${options.computeNamespace}/pods`;
  const accounts = `/api/v1/namespaces/${options.computeNamespace}/serviceaccounts`;
  const configMaps = `/api/v1/namespaces/${options.fieldNamespace}/configmaps`;
  const mutations = `/apis/${mutationVersion}/namespaces/${options.platformNamespace}/mutations`;
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${options.fieldNamespace}/leases`;
  const watch = <T>(path: string, trim: (object: KubernetesObject) => T, selectors = {}) => {
    const resource = path.slice(path.lastIndexOf('/') + 1);
    return watchList({
      api,
      path,
      trim,
      clock,
      log,
      onRestart: () => options.onWatchRestart?.(resource),
      ...selectors,
    });
  };
  const list = async <T>(path: string, trim: (object: KubernetesObject) => T, selectors = {}): Promise<T[]> => {
    const items: T[] = [];
    await listPages(api, path, selectors, (object) => items.push(trim(object)));
    return items;
  };
  const toAccount = (object: V1ServiceAccount) => toServiceAccount(object, options.fieldNamespace);
  /** Of what lies in namespaces that other installations may have as well. */
  const ourLabels = { [managedByLabel]: managedBy, [installationLabel]: options.fieldNamespace };
  const preconditions = (resourceVersion: string) => ({
    kind: 'DeleteOptions',
    apiVersion: 'v1',
    preconditions: { resourceVersion },
  });

  return {
    watchPods: () => watch(pods, toPod),
    watchServiceAccounts: () => watch(accounts, toAccount),
    watchConfigMap: (name) => watch(configMaps, toConfigMap, { fieldSelector: `metadata.name=${name}` }),
    watchConfigMaps: (label) => watch(configMaps, toConfigMap, { labelSelector: label }),
    listPods: (run) => list(pods, toPod, run === undefined ? {} : { labelSelector: `${executionIdLabel}=${run}` }),
    listPodsOfAccount: (account) => list(pods, toPod, { fieldSelector: `spec.serviceAccountName=${account}` }),
    listServiceAccounts: () => list(accounts, toAccount),
    setWanted: async (account, wanted, resourceVersion) => {
      const metadata = { annotations: { [wantedAnnotation]: wanted }, resourceVersion };
      const call = { body: { metadata }, contentType: mergePatch };
      return toAccount(await api.call<V1ServiceAccount>('PATCH', `${accounts}/${account}`, call));
    },
    createServiceAccount: async (name, madeFor) => {
      const made = { labels: ourLabels, annotations: { [madeForAnnotation]: madeFor } };
      const metadata = { name, ...(madeFor === undefined ? { labels: { [managedByLabel]: managedBy } } : made) };
      const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata };
      return toAccount(await api.call<V1ServiceAccount>('POST', accounts, { body }));
    },
    getServiceAccount: async (name) => toAccount(await api.call<V1ServiceAccount>('GET', `${accounts}/${name}`)),
    deleteServiceAccount: async (name, resourceVersion) => {
      await api.call('DELETE', `${accounts}/${name}`, { body: preconditions(resourceVersion) });
    },
    getConfigMap: (name) =>
      unlessMissing(async () => toConfigMap(await api.call<V1ConfigMap>('GET', `${configMaps}/${name}`))),
    createConfigMap: async (name, data, labels = {}) => {
      const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels }, data };
      return toConfigMap(await api.call<V1ConfigMap>('POST', configMaps, { body }));
    },
    patchConfigMap: async (name, changes, resourceVersion, labels = {}) => {
      const body = { metadata: { resourceVersion, labels }, data: changes };
      return toConfigMap(
        await api.call<V1ConfigMap>('PATCH', `${configMaps}/${name}`, { body, contentType: mergePatch }),
      );
    },
    deleteConfigMap: async (name, resourceVersion) => {
      await api.call('DELETE', `${configMaps}/${name}`, { body: preconditions(resourceVersion) });
    },
    annotateConfigMap: async (name, annotations) => {
      const call = { body: { metadata: { annotations } }, contentType: mergePatch };
      return toConfigMap(await api.call<V1ConfigMap>('PATCH', `${configMaps}/${name}`, call));
    },
    watchMutation: (name) => watch(mutations, toMutation, { fieldSelector: `metadata.name=${name}` }),
    getMutation: (name) => unlessMissing(async () => toMutation(await api.call('GET', `${mutations}/${name}`))),
    createMutation: async (name, rules) => {
      const metadata = { name, labels: ourLabels };
      const body = { apiVersion: mutationVersion, kind: 'Mutation', metadata, rules };
      return toMutation(await api.call('POST', mutations, { body }));
    },
    patchMutation: async (name, rules, resourceVersion) => {
      const metadata = { labels: ourLabels, resourceVersion };
      const call = { body: { metadata, rules }, contentType: mergePatch };
      return toMutation(await api.call('PATCH', `${mutations}/${name}`, call));
    },
    deleteMutation: async (name, resourceVersion) => {
      await api.call('DELETE', `${mutations}/${name}`, { body: preconditions(resourceVersion) });
    },
    createEvent: async ({ configMap, type, reason, message }) => {
      const now = new Date(clock.now()).toISOString();
      const body = {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { generateName: `${configMap}.` },
        involvedObject: { apiVersion: 'v1', kind: 'ConfigMap', name: configMap, namespace: options.fieldNamespace },
        type,
        reason,
        message: message.slice(0, 1024),
        source: { component: 'irsa-svc' },
        firstTimestamp: now,
        lastTimestamp: now,
        count: 1,
      };
      await api.call('POST', `/api/v1/namespaces/${options.fieldNamespace}/events`, { body });
    },
    getLease: (name, deadlineMs) =>
      unlessMissing(async () => toLease(await api.call<V1Lease>('GET', `${leases}/${name}`, { deadlineMs }))),
    writeLease: async (name, lease, resourceVersion, deadlineMs) => {
      const body = {
        apiVersion: 'coordination.k8s.io/v1',
        kind: 'Lease',
        metadata: { name, resourceVersion },
        spec: {
          holderIdentity: lease.holder,
          leaseDurationSeconds: lease.durationSeconds,
          renewTime: lease.renewTime,
          leaseTransitions: lease.transitions,
        },
      };
      const written =
        resourceVersion === undefined
          ? await api.call<V1Lease>('POST', leases, { body, deadlineMs })
          : await api.call<V1Lease>('PUT', `${leases}/${name}`, { body, deadlineMs });
      return toLease(written);
    },
  };
}

async function unlessMissing<T>(get: () => Promise<T>): Promise<T | undefined> {
  try {
    return await get();
  } catch (error) {
    if (error instanceof KubernetesError && error.kind === 'not_found') return undefined;
    throw error;
  }
}
