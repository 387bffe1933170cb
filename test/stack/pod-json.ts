/** Owns a pod as plain JSON, as webhooks see it, and additions of named items to its lists. */
import { isDeepStrictEqual } from 'node:util';
import type { Metadata } from './kubernetes-kinds.ts';

export interface Named {
  readonly name: string;
  readonly [field: string]: unknown;
}

export interface VariableJson {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string };
    readonly secretKeyRef?: KeyRef;
    readonly configMapKeyRef?: KeyRef;
    readonly [source: string]: unknown;
  };
}

export interface KeyRef {
  readonly name?: string;
  readonly key: string;
  readonly optional?: boolean;
}

export interface MountJson {
  readonly name: string;
  readonly mountPath: string;
  readonly subPath?: string;
  readonly subPathExpr?: string;
  readonly [field: string]: unknown;
}

export interface ContainerJson {
  name: string;
  image?: string;
  command?: string[];
  args?: string[];
  env?: VariableJson[];
  volumeMounts?: MountJson[];
  [field: string]: unknown;
}

export interface PodJson {
  metadata: Metadata;
  spec: {
    serviceAccountName?: string;
    serviceAccount?: string;
    containers: ContainerJson[];
    initContainers?: ContainerJson[];
    volumes?: Named[];
    securityContext?: Record<string, unknown>;
    [field: string]: unknown;
  };
  [field: string]: unknown;
}

/** A copy of the pod as JSON: dates are text and undefined fields are absent. */
export function podJson(pod: object): PodJson {
  const copy = JSON.parse(JSON.stringify(pod)) as PodJson;
  copy.metadata ??= {};
  copy.spec ??= { containers: [] };
  copy.spec.containers ??= [];
  return copy;
}

/** Init containers first, as they start. */
export function eachContainer({ spec }: PodJson): ContainerJson[] {
  return [...(spec.initContainers ?? []), ...spec.containers];
}

/** Adds an item unless it is there. @throws Error when another item has the name, which an API server would refuse. */
export function namedOnce<T extends object>(list: T[], item: T, nameOf: (item: T) => string, what: string): void {
  const present = list.find((other) => nameOf(other) === nameOf(item));
  if (!present) list.push(structuredClone(item));
  else if (!isDeepStrictEqual(present, item)) throw new Error(`${what} ${nameOf(item)} is there already, and differs`);
}

/** Sets a variable, and keeps its position when it exists already. */
export function set(env: VariableJson[], variable: VariableJson): void {
  const index = env.findIndex(({ name }) => name === variable.name);
  env.splice(index < 0 ? env.length : index, index < 0 ? 0 : 1, structuredClone(variable));
}
