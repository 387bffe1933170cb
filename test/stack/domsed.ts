/**
 * Owns the stand-in of domsed, Domino's mutating webhook: a pure function that applies Mutations to a new pod.
 *
 * Domino publishes examples of Mutations, not domsed's rules. The examples show that a Mutation's rules act in order, that
 * a later rule finds the container that an earlier one inserted, that a rule without selectors applies to every pod, and that
 * one rule can have several changes. The rest is inferred, and a chart should not rely on it: Mutations act in the order of
 * their names; a rule's selectors see the labels as earlier rules left them; a rule's changes are made in the order
 * of `changes` below; no value is a template. Where a Mutation would add a second, different item under a name that
 * the pod already has, this throws: an API server refuses such a pod, so the chart is wrong.
 */
import { mutationCauses } from './domsed-schema.ts';
import { kindNamed } from './kubernetes-kinds.ts';
import { selector } from './kubernetes-selectors.ts';
import { type ContainerJson, eachContainer, type Named, namedOnce, type PodJson, podJson, set } from './pod-json.ts';

export const userLabel = 'dominodatalab.com/starting-user-username';

export interface Rule {
  readonly labelSelectors?: readonly string[];
  readonly matchBuilds?: boolean;
  readonly cloudWorkloadIdentity?: {
    readonly cloud_type: 'aws';
    readonly default_sa?: string;
    readonly assume_sa_mapping?: boolean;
    readonly user_mappings?: Readonly<Record<string, string>>;
  };
  readonly insertContainer?: { readonly containerType: 'init' | 'app'; readonly spec: ContainerJson };
  readonly insertVolumes?: readonly Named[];
  readonly insertVolumeMounts?: Selecting & { readonly volumeMounts: NonNullable<ContainerJson['volumeMounts']> };
  readonly modifyEnv?: Selecting & { readonly env: NonNullable<ContainerJson['env']> };
  readonly modifyLabel?: { readonly key: string; readonly value: string };
  readonly modifySecurityContext?: { readonly context: Readonly<Record<string, unknown>> };
}

interface Selecting {
  /** Names of app or init containers; a name that the pod lacks is ignored. */
  readonly containerSelector?: readonly string[];
}

export interface Mutation {
  readonly apiVersion?: string;
  readonly kind?: string;
  readonly metadata?: { readonly name?: string; readonly namespace?: string };
  readonly rules: readonly Rule[];
}

export interface MutationOptions {
  /** Whether a pod builds an image. How domsed decides that is not public, so by default no pod does. */
  readonly isBuild?: (pod: PodJson) => boolean;
  /** Whether a rule without containerSelector covers init containers (native sidecars) too. By default true (inferred). */
  readonly initContainersToo?: boolean;
}

/**
 * The pod after these Mutations; the arguments are not changed.
 * @throws Error that names a Mutation which is not well-formed (an unknown rule, for example) or conflicts with the pod.
 */
export function applyMutations<T extends object>(
  mutations: readonly Mutation[],
  pod: T,
  { isBuild = () => false, initContainersToo = true }: MutationOptions = {},
): T {
  const changed = podJson(pod);
  const nameOf = ({ metadata }: Mutation) => metadata?.name ?? '';
  for (const mutation of [...mutations].sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1))) {
    checkMutation(mutation);
    for (const [index, rule] of mutation.rules.entries()) {
      if (!selects(rule, changed) || (isBuild(changed) && !rule.matchBuilds)) continue;
      try {
        for (const change of changes) change(rule, changed, initContainersToo);
      } catch (error) {
        throw new Error(`Mutation ${nameOf(mutation)}, rules[${index}]: ${(error as Error).message}`, { cause: error });
      }
    }
  }
  return changed as T;
}

/** @throws Error that names every field that is wrong. */
export function checkMutation(mutation: Mutation): void {
  // Kind and version may be left off, as objects from typed lists leave them off.
  const whole = { apiVersion: 'apps.dominodatalab.com/v1alpha1', kind: 'Mutation', metadata: {}, ...mutation };
  const causes = mutationCauses(whole).map(({ field, message }) => `${field}: ${message}`);
  if (causes.length > 0) throw new Error(`Mutation ${mutation.metadata?.name ?? ''}: ${causes.join('; ')}`);
}

type Change = (rule: Rule, pod: PodJson, initContainersToo: boolean) => void;

/** Containers come first, so that the mounts and variables of the same rule reach them. */
const changes: readonly Change[] = [
  ({ cloudWorkloadIdentity: identity }, pod) => {
    const account = identity && accountOf(identity, pod.metadata.labels?.[userLabel]);
    if (!account) return;
    pod.spec.serviceAccountName = account;
    // The field's old name, which the API server keeps equal.
    if (pod.spec.serviceAccount !== undefined) pod.spec.serviceAccount = account;
  },
  ({ insertContainer }, pod) => {
    if (insertContainer) addContainer(pod, insertContainer.containerType, structuredClone(insertContainer.spec));
  },
  ({ insertVolumes }, pod) => {
    for (const volume of insertVolumes ?? []) {
      pod.spec.volumes ??= [];
      namedOnce(pod.spec.volumes, volume, ({ name }) => name, 'volume');
    }
  },
  ({ insertVolumeMounts: insert }, pod, initContainersToo) => {
    for (const container of insert ? chosen(pod, insert, initContainersToo) : []) {
      container.volumeMounts ??= [];
      for (const mount of insert?.volumeMounts ?? []) {
        namedOnce(container.volumeMounts, mount, ({ mountPath }) => mountPath, `mount in ${container.name}`);
      }
    }
  },
  ({ modifyEnv: modify }, pod, initContainersToo) => {
    for (const container of modify ? chosen(pod, modify, initContainersToo) : []) {
      container.env ??= [];
      for (const variable of modify?.env ?? []) set(container.env, variable);
    }
  },
  ({ modifyLabel: label }, pod) => {
    if (label) pod.metadata.labels = { ...pod.metadata.labels, [label.key]: label.value };
  },
  ({ modifySecurityContext: modify }, pod) => {
    if (modify) pod.spec.securityContext = { ...pod.spec.securityContext, ...structuredClone(modify.context) };
  },
];

/** The account that a rule gives a user's pods; '' or undefined leaves a pod the one that it has. */
function accountOf(identity: NonNullable<Rule['cloudWorkloadIdentity']>, user: string | undefined): string | undefined {
  const { user_mappings: mappings = {}, assume_sa_mapping: assumed, default_sa: otherwise } = identity;
  if (user !== undefined && Object.hasOwn(mappings, user)) return mappings[user];
  return assumed && user ? user : otherwise;
}

function selects({ labelSelectors = [] }: Rule, pod: PodJson): boolean {
  const labels = pod.metadata.labels ?? {};
  return labelSelectors.every((text) => selector(kindNamed('pods'), text, null)({ labels, fields: {} }));
}

function chosen(pod: PodJson, { containerSelector: names }: Selecting, initContainersToo: boolean): ContainerJson[] {
  if (names) return eachContainer(pod).filter(({ name }) => names.includes(name));
  return initContainersToo ? eachContainer(pod) : pod.spec.containers;
}

function addContainer(pod: PodJson, type: 'init' | 'app', container: ContainerJson): void {
  const present = eachContainer(pod).find(({ name }) => name === container.name);
  if (!present) {
    pod.spec.initContainers ??= [];
    // Added at the end (inferred), so that an init container sees the results of Domino's own.
    (type === 'init' ? pod.spec.initContainers : pod.spec.containers).push(container);
    if (pod.spec.initContainers.length === 0) delete pod.spec.initContainers;
  } else if (present.image !== container.image) {
    // A container with the same image was inserted earlier; rules may have given it mounts and variables since.
    throw new Error(`container ${container.name} is there already, with another image`);
  }
}
