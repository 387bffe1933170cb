/** Owns the calls to Kubernetes, with plain values: pods, service accounts, ConfigMaps, Mutations and the lease. */
import {
  type KubernetesObject,
  PatchStrategy,
  type V1ConfigMap,
  type V1Deployment,
  type V1Lease,
  type V1ServiceAccount,
} from '@kubernetes/client-node';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { unlessMissing } from './error.ts';
import {
  type ConfigMap,
  type Deployment,
  type EventNote,
  eventBody,
  executionIdLabel,
  installationLabel,
  type LeaseRecord,
  leaseBody,
  type Mutation,
  madeForAnnotation,
  managedBy,
  managedByLabel,
  type Pod,
  type ServiceAccount,
  toConfigMap,
  toDeployment,
  toLease,
  toMutation,
  toPod,
  toServiceAccount,
  wantedAnnotation,
} from './objects.ts';
import type { KubernetesApi } from './transport.ts';
import { listPages, type Watched, watchList } from './watch.ts';

export type { ConfigMap, EventNote, LeaseRecord, Mutation, Pod, ServiceAccount } from './objects.ts';

const mutationVersion = 'apps.dominodatalab.com/v1alpha1';
const mergePatch = PatchStrategy.MergePatch;
/** Helm deletes objects that an earlier manifest of the release had and the new one lacks, unless they have this. */
const keptByHelm = { 'helm.sh/resource-policy': 'keep' };

/** All methods may throw KubernetesError. The comments name the RBAC permissions, with the namespace in brackets. */
export interface Kubernetes {
  /** pods: list, watch (compute) */
  watchPods(): Watched<Pod>;
  /** serviceaccounts: list, watch (compute) */
  watchServiceAccounts(): Watched<ServiceAccount>;
  /** configmaps: list, watch (field) */
  watchConfigMap(name: string): Watched<ConfigMap>;
  watchConfigMaps(label: string): Watched<ConfigMap>;
  /** Reads from the API server, not from a watch. @param run 24 hex digits; all runs where it is left out. */
  listPods(run?: string): Promise<Pod[]>;
  listPodsOfAccount(account: string): Promise<Pod[]>;
  listServiceAccounts(): Promise<ServiceAccount[]>;
  /** serviceaccounts: patch (compute). @param resourceVersion a conflict where it differs. */
  setWanted(account: string, wanted: string, resourceVersion: string): Promise<ServiceAccount>;
  /** serviceaccounts: create, get, delete (compute). @param madeFor the Domino user whose Pod Identity needs it. */
  createServiceAccount(name: string, madeFor?: string): Promise<ServiceAccount>;
  getServiceAccount(name: string): Promise<ServiceAccount>;
  deleteServiceAccount(name: string, resourceVersion: string): Promise<void>;
  /** configmaps: get, create, patch, delete (field) */
  getConfigMap(name: string): Promise<ConfigMap | undefined>;
  listConfigMaps(label: string): Promise<ConfigMap[]>;
  createConfigMap(name: string, data: Record<string, string>, labels?: Record<string, string>): Promise<ConfigMap>;
  /** @param changes keys to set, or to remove with null. @param resourceVersion a conflict where it differs. */
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
  /** mutations.apps.dominodatalab.com: get, create, patch, delete (platform). Writes label it with our installation. */
  getMutation(name: string): Promise<Mutation | undefined>;
  createMutation(name: string, rules: unknown): Promise<Mutation>;
  /** @param resourceVersion a conflict where it differs. */
  patchMutation(name: string, rules: unknown, resourceVersion: string): Promise<Mutation>;
  deleteMutation(name: string, resourceVersion: string): Promise<void>;
  /** deployments.apps: get (field) */
  getDeployment(name: string): Promise<Deployment | undefined>;
  /** pods: create (compute). A dry run, which stores nothing. @returns the Pod as the admission webhooks change it. */
  dryRunPod(pod: object): Promise<Pod>;
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
  const deps = { ...options, ...readers(options) };
  return { ...runCalls(deps), ...configMapCalls(deps), ...mutationCalls(deps), ...leaderCalls(deps) };
}

type Deps = KubernetesOptions & ReturnType<typeof readers>;

/** Functions that watch and list any resource. */
function readers({ api, clock, log, onWatchRestart }: KubernetesOptions) {
  return {
    watch: <T>(path: string, trim: (object: KubernetesObject) => T, selectors = {}) => {
      const resource = path.slice(path.lastIndexOf('/') + 1);
      return watchList({ api, path, trim, clock, log, onRestart: () => onWatchRestart?.(resource), ...selectors });
    },
    list: async <T>(path: string, trim: (object: KubernetesObject) => T, selectors = {}): Promise<T[]> => {
      const items: T[] = [];
      await listPages(api, path, selectors, (object) => items.push(trim(object)));
      return items;
    },
  };
}

/** The labels of our objects in namespaces that other installations may share. */
function ourLabels({ fieldNamespace }: KubernetesOptions) {
  return { [managedByLabel]: managedBy, [installationLabel]: fieldNamespace };
}

function preconditions(resourceVersion: string) {
  return { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { resourceVersion } };
}

/** Pods and service accounts of the compute namespace. */
function runCalls(deps: Deps) {
  const { api, watch, list } = deps;
  const pods = `/api/v1/namespaces/${deps.computeNamespace}/pods`;
  const accounts = `/api/v1/namespaces/${deps.computeNamespace}/serviceaccounts`;
  const toAccount = (object: V1ServiceAccount) => toServiceAccount(object, deps.fieldNamespace);
  return {
    watchPods: () => watch(pods, toPod),
    watchServiceAccounts: () => watch(accounts, toAccount),
    listPods: (run) => list(pods, toPod, run === undefined ? {} : { labelSelector: `${executionIdLabel}=${run}` }),
    listPodsOfAccount: (account) => list(pods, toPod, { fieldSelector: `spec.serviceAccountName=${account}` }),
    listServiceAccounts: () => list(accounts, toAccount),
    setWanted: async (account, wanted, resourceVersion) => {
      const metadata = { annotations: { [wantedAnnotation]: wanted }, resourceVersion };
      const call = { body: { metadata }, contentType: mergePatch };
      return toAccount(await api.call<V1ServiceAccount>('PATCH', `${accounts}/${account}`, call));
    },
    createServiceAccount: async (name, madeFor) => {
      const made = { labels: ourLabels(deps), annotations: { [madeForAnnotation]: madeFor } };
      const metadata = { name, ...(madeFor === undefined ? { labels: { [managedByLabel]: managedBy } } : made) };
      const body = { apiVersion: 'v1', kind: 'ServiceAccount', metadata };
      return toAccount(await api.call<V1ServiceAccount>('POST', accounts, { body }));
    },
    getServiceAccount: async (name) => toAccount(await api.call<V1ServiceAccount>('GET', `${accounts}/${name}`)),
    deleteServiceAccount: async (name, resourceVersion) => {
      await api.call('DELETE', `${accounts}/${name}`, { body: preconditions(resourceVersion) });
    },
    dryRunPod: async (body) => toPod(await api.call('POST', pods, { body, query: { dryRun: 'All' } })),
  } satisfies Partial<Kubernetes>;
}

/** ConfigMaps of the field namespace, and the Events about them. */
function configMapCalls({ api, watch, list, fieldNamespace, clock }: Deps) {
  const configMaps = `/api/v1/namespaces/${fieldNamespace}/configmaps`;
  return {
    watchConfigMap: (name) => watch(configMaps, toConfigMap, { fieldSelector: `metadata.name=${name}` }),
    watchConfigMaps: (label) => watch(configMaps, toConfigMap, { labelSelector: label }),
    listConfigMaps: (label) => list(configMaps, toConfigMap, { labelSelector: label }),
    getConfigMap: (name) =>
      unlessMissing(async () => toConfigMap(await api.call<V1ConfigMap>('GET', `${configMaps}/${name}`))),
    createConfigMap: async (name, data, labels = {}) => {
      const body = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, labels, annotations: keptByHelm }, data };
      return toConfigMap(await api.call<V1ConfigMap>('POST', configMaps, { body }));
    },
    patchConfigMap: async (name, changes, resourceVersion, labels = {}) => {
      const metadata = { resourceVersion, labels, annotations: keptByHelm };
      const call = { body: { metadata, data: changes }, contentType: mergePatch };
      return toConfigMap(await api.call<V1ConfigMap>('PATCH', `${configMaps}/${name}`, call));
    },
    deleteConfigMap: async (name, resourceVersion) => {
      await api.call('DELETE', `${configMaps}/${name}`, { body: preconditions(resourceVersion) });
    },
    annotateConfigMap: async (name, annotations) => {
      const call = { body: { metadata: { annotations } }, contentType: mergePatch };
      return toConfigMap(await api.call<V1ConfigMap>('PATCH', `${configMaps}/${name}`, call));
    },
    createEvent: async (note) => {
      // `kubectl describe` asks for the Events of a uid.
      const { metadata } = await api.call<V1ConfigMap>('GET', `${configMaps}/${note.configMap}`);
      const body = eventBody(note, metadata, clock.now());
      await api.call('POST', `/api/v1/namespaces/${fieldNamespace}/events`, { body });
    },
  } satisfies Partial<Kubernetes>;
}

/** Domino's Mutations of the platform namespace. */
function mutationCalls(deps: Deps) {
  const { api, watch } = deps;
  const mutations = `/apis/${mutationVersion}/namespaces/${deps.platformNamespace}/mutations`;
  const labels = ourLabels(deps);
  return {
    watchMutation: (name) => watch(mutations, toMutation, { fieldSelector: `metadata.name=${name}` }),
    getMutation: (name) => unlessMissing(async () => toMutation(await api.call('GET', `${mutations}/${name}`))),
    createMutation: async (name, rules) => {
      const metadata = { name, labels };
      const body = { apiVersion: mutationVersion, kind: 'Mutation', metadata, rules };
      return toMutation(await api.call('POST', mutations, { body }));
    },
    patchMutation: async (name, rules, resourceVersion) => {
      const metadata = { labels, resourceVersion };
      const call = { body: { metadata, rules }, contentType: mergePatch };
      return toMutation(await api.call('PATCH', `${mutations}/${name}`, call));
    },
    deleteMutation: async (name, resourceVersion) => {
      await api.call('DELETE', `${mutations}/${name}`, { body: preconditions(resourceVersion) });
    },
  } satisfies Partial<Kubernetes>;
}

/** The lease, and Deployments: the earlier release's, and our own. */
function leaderCalls({ api, fieldNamespace }: Deps) {
  const deployments = `/apis/apps/v1/namespaces/${fieldNamespace}/deployments`;
  const leases = `/apis/coordination.k8s.io/v1/namespaces/${fieldNamespace}/leases`;
  return {
    getDeployment: (name) =>
      unlessMissing(async () => toDeployment(await api.call<V1Deployment>('GET', `${deployments}/${name}`))),
    getLease: (name, deadlineMs) =>
      unlessMissing(async () => toLease(await api.call<V1Lease>('GET', `${leases}/${name}`, { deadlineMs }))),
    writeLease: async (name, lease, resourceVersion, deadlineMs) => {
      const body = leaseBody(name, lease, resourceVersion);
      const written =
        resourceVersion === undefined
          ? await api.call<V1Lease>('POST', leases, { body, deadlineMs })
          : await api.call<V1Lease>('PUT', `${leases}/${name}`, { body, deadlineMs });
      return toLease(written);
    },
  } satisfies Partial<Kubernetes>;
}
