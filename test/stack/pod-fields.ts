/** Owns the text of a pod's fields, config maps and secrets, as the downward API and references give it. */
import type { Cluster } from './kubernetes-admission.ts';
import type { KeyRef, PodJson } from './pod-json.ts';

type Data = Readonly<Record<string, string>>;

export interface PodData {
  /** Looks up config maps that are not given below. */
  readonly kubernetes?: Pick<Cluster, 'get'>;
  /** Config maps by name, in the pod's namespace. */
  readonly configMaps?: Readonly<Record<string, Data>>;
  /** Secrets by name, as plain text; the Kubernetes stand-in serves no secrets. */
  readonly secrets?: Readonly<Record<string, Data>>;
}

export type DataKind = 'configMap' | 'secret';

/** The keys and values; undefined for a missing optional source. @throws Error for a missing required source. */
export function dataOf(
  { kubernetes, configMaps = {}, secrets = {} }: PodData,
  pod: PodJson,
  kind: DataKind,
  { name = '', optional = false }: { name?: string; optional?: boolean },
): Readonly<Record<string, string | Buffer>> | undefined {
  const given = (kind === 'secret' ? secrets : configMaps)[name];
  if (given) return given;
  const namespace = pod.metadata.namespace ?? 'default';
  const stored =
    kind === 'configMap'
      ? kubernetes?.get<{ data?: Data; binaryData?: Data }>('configmaps', namespace, name)
      : undefined;
  if (stored) {
    const binary = Object.entries(stored.binaryData ?? {}).map(([key, text]) => [key, Buffer.from(text, 'base64')]);
    return { ...stored.data, ...Object.fromEntries(binary) };
  }
  if (optional) return undefined;
  throw new Error(`pod ${pod.metadata.name}: no ${kind} ${name} in ${namespace}: it would not start`);
}

/** The value of one key; undefined for a missing optional key. */
export function keyOf(data: PodData, pod: PodJson, kind: DataKind, reference: KeyRef): string | undefined {
  const value = dataOf(data, pod, kind, reference)?.[reference.key];
  if (value !== undefined) return String(value);
  if (reference.optional) return undefined;
  throw new Error(`pod ${pod.metadata.name}: no key ${reference.key} in ${kind} ${reference.name}: it would not start`);
}

/** A field by its path, as the downward API gives it. @throws Error for a field that it does not support. */
export function fieldOf(pod: PodJson, path: string): string {
  const { metadata, spec, status = {} } = pod as PodJson & { status?: Record<string, unknown> };
  const [, map, key] = /^metadata\.(labels|annotations)(?:\['([^']+)'\])?$/.exec(path) ?? [];
  if (map) {
    const values = metadata[map as 'labels' | 'annotations'] ?? {};
    return key === undefined ? lines(values) : (values[key] ?? '');
  }
  switch (path) {
    case 'metadata.name':
    case 'metadata.namespace':
    case 'metadata.uid':
      return String(metadata[path.slice('metadata.'.length)] ?? '');
    case 'spec.nodeName':
    case 'spec.serviceAccountName':
      return String(spec[path.slice('spec.'.length)] ?? '');
    case 'status.hostIP':
    case 'status.podIP':
      return String(status[path.slice('status.'.length)] ?? '');
    default:
      throw new Error(`pod ${metadata.name}: the downward API offers no ${path}`);
  }
}

/** Lines of `key="value"`, sorted by key, without a line end after the last, as the kubelet writes them. */
function lines(values: Data): string {
  const keys = Object.keys(values).sort();
  return keys.map((key) => `${key}=${JSON.stringify(values[key])}`).join('\n');
}
