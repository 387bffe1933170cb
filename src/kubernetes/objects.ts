/** Owns the Kubernetes objects that we read, as plain values with only the fields that we use. Pure. */
import type {
  KubernetesObject,
  V1ConfigMap,
  V1Deployment,
  V1EnvVar,
  V1Lease,
  V1ObjectMeta,
  V1Pod,
  V1ServiceAccount,
} from '@kubernetes/client-node';

/** The annotation with a run's role request on its service account, as src/runs/role-request.ts writes it. */
export const wantedAnnotation = 'irsa.dominodatalab.com/wanted';

export interface Pod {
  name: string;
  /** A later pod of the same name has another uid. */
  uid: string;
  /** The run's 24 hex digits, from label `dominodatalab.com/execution-id`. */
  run: string | undefined;
  account: string;
  /** The `canonicalId` of the user who started it, from label `dominodatalab.com/starting-user-id`. */
  user: string | undefined;
  /** That user's name, from label `dominodatalab.com/starting-user-username`. */
  userName: string | undefined;
  /** The workload type, from label `dominodatalab.com/workload-type`: Workspace, Batch, Scheduled, App, ModelAPI, … */
  workload: string | undefined;
  /** Whether EKS set the variable for Pod Identity credentials in its containers when the pod was created. */
  hasPodIdentity: boolean;
  /** False when its phase is Succeeded or Failed; Pending and terminating pods are live. */
  live: boolean;
}

export interface ServiceAccount {
  name: string;
  resourceVersion: string;
  /** The raw annotation. */
  wanted: string | undefined;
  /** Whether irsa-svc created it. */
  ours: boolean;
  /** The Domino user that this installation created it for; only then may this installation delete it. */
  madeFor: string | undefined;
}

/** A Mutation of domsed: rules that change pods when they are created. */
export interface Mutation {
  name: string;
  resourceVersion: string;
  rules: unknown;
  /** The installation of irsa-svc that wrote it last, by its field namespace; undefined where none did. */
  installation: string | undefined;
}

export interface ConfigMap {
  name: string;
  resourceVersion: string;
  data: Record<string, string>;
  annotations: Record<string, string>;
}

/** A Kubernetes Event about one of our ConfigMaps. */
export interface EventNote {
  /** The ConfigMap that the Event is about. */
  configMap: string;
  type: 'Normal' | 'Warning';
  /** One word in CamelCase. */
  reason: string;
  message: string;
}

export interface LeaseRecord {
  resourceVersion: string;
  holder: string;
  durationSeconds: number;
  /** The raw text; only a change of it matters. */
  renewTime: string;
  transitions: number;
}

export const executionIdLabel = 'dominodatalab.com/execution-id';
const startingUserLabel = 'dominodatalab.com/starting-user-id';
const startingUserNameLabel = 'dominodatalab.com/starting-user-username';
export const workloadLabel = 'dominodatalab.com/workload-type';
/** The annotation with the Domino user, on a service account that was made for a Pod Identity mapping. */
export const madeForAnnotation = 'irsa.dominodatalab.com/pod-identity-of';
export const managedByLabel = 'app.kubernetes.io/managed-by';
export const managedBy = 'irsa-svc';
/** The label with our installation, on objects in namespaces that several installations may share. */
export const installationLabel = 'irsa.dominodatalab.com/installation';

/** https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html */
const isPodIdentityVariable = ({ name }: V1EnvVar) => name === 'AWS_CONTAINER_CREDENTIALS_FULL_URI';

export function toPod(object: V1Pod): Pod {
  const labels = object.metadata?.labels ?? {};
  const phase = object.status?.phase;
  return {
    name: object.metadata?.name ?? '',
    uid: object.metadata?.uid ?? '',
    run: labels[executionIdLabel],
    account: object.spec?.serviceAccountName ?? 'default',
    user: labels[startingUserLabel],
    userName: labels[startingUserNameLabel],
    workload: labels[workloadLabel],
    hasPodIdentity: object.spec?.containers.some(({ env }) => env?.some(isPodIdentityVariable)) ?? false,
    live: phase !== 'Succeeded' && phase !== 'Failed',
  };
}

export function toServiceAccount(object: V1ServiceAccount, installation: string): ServiceAccount {
  const { name = '', resourceVersion = '', annotations, labels } = object.metadata ?? {};
  return {
    name,
    resourceVersion,
    wanted: annotations?.[wantedAnnotation],
    ours: labels?.[managedByLabel] === managedBy,
    madeFor: labels?.[installationLabel] === installation ? annotations?.[madeForAnnotation] : undefined,
  };
}

export function toMutation(object: KubernetesObject & { rules?: unknown }): Mutation {
  const { name = '', resourceVersion = '', labels } = object.metadata ?? {};
  return { name, resourceVersion, rules: object.rules, installation: labels?.[installationLabel] };
}

export function toConfigMap(object: V1ConfigMap): ConfigMap {
  const { name = '', resourceVersion = '', annotations = {} } = object.metadata ?? {};
  return { name, resourceVersion, data: object.data ?? {}, annotations };
}

/** The fields of a Deployment that show whether another release writes, and how many replicas there are. */
export interface Deployment {
  /** Whether its pods are this release's. */
  isOurs: boolean;
  /** The desired or the present number of replicas, whichever is larger. */
  replicas: number;
  /** The desired number of replicas. */
  wanted: number;
  /** The number of ready replicas. */
  ready: number;
}

export function toDeployment({ spec, status }: V1Deployment): Deployment {
  const labels = spec?.template?.metadata?.labels ?? {};
  return {
    isOurs: labels['app.kubernetes.io/name'] === 'irsa-svc',
    replicas: Math.max(spec?.replicas ?? 1, status?.replicas ?? 0),
    wanted: spec?.replicas ?? 1,
    ready: status?.readyReplicas ?? 0,
  };
}

export function toLease(object: V1Lease): LeaseRecord {
  const { holderIdentity = '', leaseDurationSeconds = 0, renewTime, leaseTransitions = 0 } = object.spec ?? {};
  return {
    resourceVersion: object.metadata?.resourceVersion ?? '',
    holder: holderIdentity,
    durationSeconds: leaseDurationSeconds,
    renewTime: String(renewTime ?? ''),
    transitions: leaseTransitions,
  };
}

export function leaseBody(
  name: string,
  lease: Omit<LeaseRecord, 'resourceVersion'>,
  resourceVersion: string | undefined,
) {
  return {
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
}

/** @param about the ConfigMap's metadata. @param at milliseconds since the epoch. */
export function eventBody(
  { configMap, type, reason, message }: EventNote,
  about: V1ObjectMeta | undefined,
  at: number,
) {
  const now = new Date(at).toISOString();
  const { uid, name, namespace, resourceVersion } = about ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Event',
    metadata: { generateName: `${configMap}.` },
    involvedObject: { apiVersion: 'v1', kind: 'ConfigMap', name, namespace, uid, resourceVersion },
    type,
    reason,
    message: message.slice(0, 1024),
    source: { component: 'irsa-svc' },
    firstTimestamp: now,
    lastTimestamp: now,
    count: 1,
  };
}
