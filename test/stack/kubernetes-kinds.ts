/** Owns the list of resources that the Kubernetes stand-in serves, and its discovery documents. */

export interface Metadata {
  name?: string;
  generateName?: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  [field: string]: unknown;
}

/** Any object of the API, as JSON. */
export interface KubernetesObject {
  apiVersion?: string;
  kind?: string;
  metadata?: Metadata;
  [field: string]: unknown;
}

export interface Kind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly shortNames: readonly string[];
  readonly namespaced: boolean;
  /** Field selectors beyond metadata.name and metadata.namespace, as paths into the object. */
  readonly fields: readonly string[];
  /** The defaults that the real API server sets for absent fields. */
  readonly defaults: (object: KubernetesObject) => void;
  /** A custom resource: items of its lists have kind and apiVersion, and it has no strategic merge and no unguarded PUT. */
  readonly custom: boolean;
  /** A PUT to a name that does not exist creates it. */
  readonly createsOnUpdate: boolean;
  /** A PUT without a resourceVersion is refused. */
  readonly updateNeedsVersion: boolean;
  /** DELETE answers the object; the others answer a Status. */
  readonly deleteAnswersObject: boolean;
  /** Whether a metadata.name must not contain dots. */
  readonly labelName: boolean;
}

function kind(apiVersion: string, name: string, plural: string, rest: Partial<Kind> = {}): Kind {
  const slash = apiVersion.indexOf('/');
  return {
    group: slash < 0 ? '' : apiVersion.slice(0, slash),
    version: apiVersion.slice(slash + 1),
    kind: name,
    plural,
    singular: name.toLowerCase(),
    shortNames: [],
    namespaced: true,
    fields: [],
    defaults: () => undefined,
    custom: false,
    createsOnUpdate: false,
    updateNeedsVersion: rest.custom ?? false,
    deleteAnswersObject: false,
    labelName: false,
    ...rest,
  };
}

function podDefaults(pod: KubernetesObject): void {
  const ofAll = { serviceAccountName: 'default', restartPolicy: 'Always', terminationGracePeriodSeconds: 30 };
  pod.spec = { ...ofAll, ...(pod.spec as object | undefined) };
  pod.status = { phase: 'Pending', ...(pod.status as object | undefined) };
}

function namespaceDefaults(namespace: KubernetesObject): void {
  namespace.spec ??= { finalizers: ['kubernetes'] };
  namespace.status ??= { phase: 'Active' };
}

const podFields = ['status.phase', 'spec.serviceAccountName', 'spec.nodeName'];
const eventFields = ['involvedObject.kind', 'involvedObject.name', 'involvedObject.namespace', 'involvedObject.uid'];

/** Every resource that is served, one a line. */
export const kinds: readonly Kind[] = [
  kind('v1', 'Pod', 'pods', {
    shortNames: ['po'],
    fields: podFields,
    defaults: podDefaults,
    deleteAnswersObject: true,
  }),
  kind('v1', 'ServiceAccount', 'serviceaccounts', { shortNames: ['sa'], deleteAnswersObject: true }),
  kind('v1', 'ConfigMap', 'configmaps', { shortNames: ['cm'] }),
  kind('v1', 'Event', 'events', {
    shortNames: ['ev'],
    fields: [...eventFields, 'reason', 'type'],
    createsOnUpdate: true,
  }),
  kind('v1', 'Namespace', 'namespaces', {
    shortNames: ['ns'],
    namespaced: false,
    labelName: true,
    fields: ['status.phase'],
    defaults: namespaceDefaults,
  }),
  kind('apps/v1', 'Deployment', 'deployments', { shortNames: ['deploy'] }),
  kind('coordination.k8s.io/v1', 'Lease', 'leases', { createsOnUpdate: true, updateNeedsVersion: true }),
  kind('apps.dominodatalab.com/v1alpha1', 'Mutation', 'mutations', { custom: true }),
];

export function apiVersionOf(kind: Kind): string {
  return kind.group === '' ? kind.version : `${kind.group}/${kind.version}`;
}

export function findKind(group: string, version: string, plural: string): Kind | undefined {
  return kinds.find((kind) => kind.group === group && kind.version === version && kind.plural === plural);
}

/** By plural name alone, for tests. Throws on a resource that is not served. */
export function kindNamed(plural: string): Kind {
  const found = kinds.find((kind) => kind.plural === plural);
  if (!found) throw new Error(`the Kubernetes stand-in serves no ${plural}; add a line to kubernetes-kinds.ts`);
  return found;
}

/** The discovery document at this path, or undefined when there is none. */
export function discovery(path: string): unknown {
  if (path === '/version') {
    return { major: '1', minor: '34', gitVersion: 'v1.34.0-stand-in', platform: 'linux/amd64' };
  }
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'], serverAddressByClientCIDRs: [] };
  const groups = [...new Set(kinds.filter((kind) => kind.group !== '').map(apiVersionOf))].map(apiGroup);
  if (path === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups };
  const named = /^\/apis\/([^/]+)$/.exec(path)?.[1];
  const group = groups.find(({ name }) => name === named);
  if (group) return { kind: 'APIGroup', apiVersion: 'v1', ...group };
  const groupVersion = path === '/api/v1' ? 'v1' : /^\/apis\/([^/]+\/[^/]+)$/.exec(path)?.[1];
  const served = kinds.filter((kind) => apiVersionOf(kind) === groupVersion);
  if (served.length === 0) return undefined;
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources: served.map(apiResource) };
}

function apiGroup(groupVersion: string) {
  const [name, version] = groupVersion.split('/');
  return { name, versions: [{ groupVersion, version }], preferredVersion: { groupVersion, version } };
}

function apiResource(kind: Kind) {
  return {
    name: kind.plural,
    singularName: kind.singular,
    namespaced: kind.namespaced,
    kind: kind.kind,
    verbs: ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'update', 'watch'],
    shortNames: kind.shortNames,
  };
}
