/**
 * Owns what is done to a pod when it is created on Domino's EKS cluster, as an admission hook of the Kubernetes
 * stand-in: domsed first, then EKS's Pod Identity webhook, which therefore sees the account that domsed chose. (Webhooks
 * act in the order of their configurations' names; `operator-webhook`, domsed's, is before `pod-identity-webhook`.)
 *
 * EKS's other half, which reads the role from a service account's annotation, is not here: Domino's runs bring a token
 * volume of their own.
 */
import { applyMutations, type Mutation, type MutationOptions } from './domsed.ts';
import type { Admission } from './kubernetes-admission.ts';
import { type ContainerJson, eachContainer, namedOnce, type PodJson, podJson } from './pod-json.ts';

/** Where the agent on the node answers, as EKS tells pods. */
export const podIdentityUri = 'http://169.254.170.23/v1/credentials';
export const podIdentityAudience = 'pods.eks.amazonaws.com';
const volumeName = 'eks-pod-identity-token';
const mountPath = '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount';
export const podIdentityTokenFile = `${mountPath}/eks-pod-identity-token`;

const variables = {
  AWS_CONTAINER_CREDENTIALS_FULL_URI: podIdentityUri,
  AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: podIdentityTokenFile,
};

export interface PodWebhookOptions extends MutationOptions {
  /** Whether a service account has a Pod Identity association at this moment; none has, by default. */
  readonly associationOf?: (namespace: string, serviceAccount: string) => boolean;
  /** Where Mutations count. */
  readonly platformNamespace?: string;
  /** The namespaces whose pods domsed sees: those labelled for it, which the installation does to this one. */
  readonly computeNamespaces?: readonly string[];
}

/**
 * To be given to the stand-in's `admit`.
 *
 * A Mutation that cannot be applied fails the creation. In a cluster it would not: domsed's webhook is ignored when it
 * fails, and the pod starts as Domino made it. A test would not notice that.
 */
export function podWebhooks({
  associationOf = () => false,
  platformNamespace = 'domino-platform',
  computeNamespaces = ['domino-compute'],
  ...options
}: PodWebhookOptions = {}): Admission {
  return (kind, object, cluster) => {
    if (kind !== 'pods') return object;
    let pod = podJson(object);
    const { namespace = 'default' } = pod.metadata;
    if (computeNamespaces.includes(namespace)) {
      pod = applyMutations(cluster.list<Mutation & object>('mutations', platformNamespace), pod, options);
    }
    return associationOf(namespace, pod.spec.serviceAccountName ?? 'default') ? withPodIdentity(pod) : pod;
  };
}

/**
 * The pod with the variables and the token volume of Pod Identity in each container, init containers included. As in
 * EKS's webhook (aws/amazon-eks-pod-identity-webhook), a container that has one of the variables or the mount keeps
 * what it has.
 */
export function withPodIdentity<T extends object>(given: T): T {
  const pod = podJson(given);
  const token = { audience: podIdentityAudience, expirationSeconds: 86_400, path: 'eks-pod-identity-token' };
  pod.spec.volumes ??= [];
  const volume = { name: volumeName, projected: { sources: [{ serviceAccountToken: token }] } };
  namedOnce(pod.spec.volumes, volume, ({ name }) => name, 'volume');
  for (const container of eachContainer(pod)) addVariables(container);
  return pod as PodJson & T;
}

function addVariables(container: ContainerJson): void {
  const { env = [], volumeMounts = [] } = container;
  const taken = env.some(({ name }) => Object.hasOwn(variables, name));
  if (taken || volumeMounts.some((mount) => mount.name === volumeName || mount.mountPath === mountPath)) return;
  container.env = [...env, ...Object.entries(variables).map(([name, value]) => ({ name, value }))];
  container.volumeMounts = [...volumeMounts, { name: volumeName, mountPath, readOnly: true }];
}
