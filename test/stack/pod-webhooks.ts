/**
 * Owns the admission hook that changes new pods as on Domino's EKS cluster: first domsed, then EKS's Pod Identity webhook, which
 * therefore sees the account that domsed chose. (Webhooks act in the order of their configurations' names; `operator-webhook`,
 * domsed's, is before `pod-identity-webhook`.) An account without an association gets the role of its annotation: this is the
 * webhook's older part, IAM roles for service accounts.
 */
import { applyMutations, type Mutation, type MutationOptions } from './domsed.ts';
import type { Admission } from './kubernetes-admission.ts';
import { type ContainerJson, eachContainer, namedOnce, type PodJson, podJson } from './pod-json.ts';

/** The address of the node's agent that EKS gives to pods. */
export const podIdentityUri = 'http://169.254.170.23/v1/credentials';
export const podIdentityAudience = 'pods.eks.amazonaws.com';
const volumeName = 'eks-pod-identity-token';
const mountPath = '/var/run/secrets/pods.eks.amazonaws.com/serviceaccount';
export const podIdentityTokenFile = `${mountPath}/eks-pod-identity-token`;
const webIdentityMountPath = '/var/run/secrets/eks.amazonaws.com/serviceaccount';

const variables = {
  AWS_CONTAINER_CREDENTIALS_FULL_URI: podIdentityUri,
  AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE: podIdentityTokenFile,
};

interface AnnotatedAccount {
  readonly metadata?: { readonly annotations?: Readonly<Record<string, string>> };
}

export interface PodWebhookOptions extends MutationOptions {
  /** Whether a service account has a Pod Identity association now; by default none has. */
  readonly associationOf?: (namespace: string, serviceAccount: string) => boolean;
  /** The namespace whose Mutations apply. */
  readonly platformNamespace?: string;
  /** The namespaces whose pods domsed changes; a label selects them, which the installation sets on this one. */
  readonly computeNamespaces?: readonly string[];
}

/**
 * The hook for the stand-in's `admit`.
 *
 * A Mutation that cannot be applied fails the creation. In a cluster the failure of domsed's webhook would be ignored, and the
 * pod would start as Domino made it; a test would not notice that.
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
    const account = pod.spec.serviceAccountName ?? 'default';
    if (associationOf(namespace, account)) return withPodIdentity(pod);
    const { annotations = {} } = cluster.get<AnnotatedAccount>('serviceaccounts', namespace, account)?.metadata ?? {};
    const role = annotations['eks.amazonaws.com/role-arn'];
    return role ? withWebIdentity(pod, role, annotations['eks.amazonaws.com/audience']) : pod;
  };
}

/** Only EKS's Pod Identity webhook, which each EKS cluster has. */
export function podIdentityWebhook(associationOf: (namespace: string, serviceAccount: string) => boolean): Admission {
  return (kind, object) => {
    if (kind !== 'pods') return object;
    const { metadata, spec } = podJson(object);
    return associationOf(metadata.namespace ?? 'default', spec.serviceAccountName ?? 'default')
      ? withPodIdentity(object)
      : object;
  };
}

/**
 * Adds the variables and the token volume of Pod Identity to each container, init containers included. As in EKS's webhook
 * (aws/amazon-eks-pod-identity-webhook), a container that has one of the variables or the mount keeps its own.
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

/**
 * The pod as EKS's webhook makes it for an account with the annotation `eks.amazonaws.com/role-arn`, after `addEnvToContainer`
 * and `getPodSpecPatch` of aws/amazon-eks-pod-identity-webhook at 3bf80a3: EKS runs it with `--aws-default-region` and
 * regional STS. A container is left alone only if it has a variable of web identity, a region **and**
 * AWS_STS_REGIONAL_ENDPOINTS; the webhook finds a mount by the volume's name, and never by its path.
 */
export function withWebIdentity<T extends object>(given: T, role: string, audience = 'sts.amazonaws.com'): T {
  const pod = podJson(given);
  const name = 'aws-iam-token';
  for (const container of eachContainer(pod)) addWebIdentity(container, name, role);
  const token = { audience, expirationSeconds: 86_400, path: 'token' };
  const volume = { name, projected: { sources: [{ serviceAccountToken: token }] } };
  pod.spec.volumes ??= [];
  if (!pod.spec.volumes.some((present) => present.name === name)) pod.spec.volumes.unshift(volume);
  return pod as PodJson & T;
}

function addWebIdentity(container: ContainerJson, volume: string, role: string): void {
  const { env = [], volumeMounts = [] } = container;
  const has = (...names: string[]) => env.some(({ name }) => names.includes(name));
  const hasKeys = has('AWS_ROLE_ARN', 'AWS_WEB_IDENTITY_TOKEN_FILE');
  const hasRegion = has('AWS_REGION', 'AWS_DEFAULT_REGION');
  const hasRegionalSts = has('AWS_STS_REGIONAL_ENDPOINTS');
  if (hasKeys && hasRegion && hasRegionalSts) return;
  const added = {
    ...(hasRegionalSts ? {} : { AWS_STS_REGIONAL_ENDPOINTS: 'regional' }),
    ...(hasRegion ? {} : { AWS_DEFAULT_REGION: 'us-west-2', AWS_REGION: 'us-west-2' }),
    ...(hasKeys ? {} : { AWS_ROLE_ARN: role, AWS_WEB_IDENTITY_TOKEN_FILE: `${webIdentityMountPath}/token` }),
  };
  container.env = [...env, ...Object.entries(added).map(([name, value]) => ({ name, value }))];
  if (volumeMounts.some(({ name }) => name === volume)) return;
  container.volumeMounts = [...volumeMounts, { name: volume, mountPath: webIdentityMountPath, readOnly: true }];
}
