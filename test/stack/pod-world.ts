/**
 * Owns a pod's world on this machine: its volumes as folders, and each container's environment and command with paths that lead
 * to these folders, since a test cannot mount volumes at the pod's own paths.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { dataOf, fieldOf, keyOf } from './pod-fields.ts';
import { type ContainerJson, eachContainer, type PodJson, podJson, type VariableJson } from './pod-json.ts';
import { type VolumeSources, writeVolume } from './pod-volumes.ts';

export type { VolumeSources } from './pod-volumes.ts';

export interface ContainerOptions {
  /**
   * A variable's whole value in the pod -> its value here, for addresses that do not exist on this machine. Replaced values are
   * not replaced again.
   */
  readonly replace?: Readonly<Record<string, string>>;
}

/** A container, ready to be started as a process. */
export interface ContainerOnDisk {
  readonly environment: Readonly<Record<string, string>>;
  /** Empty when the image defines it. */
  readonly command: readonly string[];
  readonly args: readonly string[];
  /** The path on disk of a path in the container; the path itself when no mount covers it. */
  path(inContainer: string): string;
}

export interface PodOnDisk {
  readonly folder: string;
  /** @throws Error when the pod has no container of that name, or lacks an object to which its variables refer. */
  container(name: string, options?: ContainerOptions): ContainerOnDisk;
  /** Writes labels, tokens, config maps and secrets anew, as the kubelet does from time to time. */
  renew(pod?: object): Promise<void>;
}

/**
 * Writes a pod's volumes under a folder, one folder each, which its containers share.
 * @throws Error when an object to which a volume refers is missing: the pod would not start.
 */
export async function layOutPod(given: object, folder: string, sources: VolumeSources): Promise<PodOnDisk> {
  let pod = podJson(given);
  const renew = async () => {
    for (const volume of pod.spec.volumes ?? []) await writeVolume(join(folder, volume.name), volume, pod, sources);
  };
  mkdirSync(folder, { recursive: true });
  await renew();
  return {
    folder,
    container: (name, options = {}) => {
      const container = eachContainer(pod).find((each) => each.name === name);
      if (!container) throw new Error(`pod ${pod.metadata.name} has no container ${name}`);
      return containerOnDisk(container, pod, folder, sources, options);
    },
    renew: async (changed) => {
      if (changed) pod = podJson(changed);
      await renew();
    },
  };
}

function containerOnDisk(
  container: ContainerJson,
  pod: PodJson,
  folder: string,
  sources: VolumeSources,
  { replace = {} }: ContainerOptions,
): ContainerOnDisk {
  const values = variables(container, pod, sources);
  const relocated = relocation(container, pod, folder, values);
  const here = (value: string) => (Object.hasOwn(replace, value) ? (replace[value] ?? '') : relocated(value));
  const words = (list: readonly string[] = []) => list.map((word) => relocated(expanded(word, values)));
  return {
    environment: Object.fromEntries([...values].map(([name, value]) => [name, here(value)])),
    command: words(container.command),
    args: words(container.args),
    path: relocated,
  };
}

/** The variables as in the pod: `envFrom` first, then each in turn; it may refer to earlier ones. */
function variables(container: ContainerJson, pod: PodJson, sources: VolumeSources): Map<string, string> {
  const values = new Map<string, string>();
  type From = { prefix?: string; configMapRef?: { name?: string }; secretRef?: { name?: string } };
  for (const { prefix = '', configMapRef, secretRef } of (container.envFrom ?? []) as From[]) {
    const data = configMapRef
      ? dataOf(sources, pod, 'configMap', configMapRef)
      : dataOf(sources, pod, 'secret', secretRef ?? {});
    for (const [key, value] of Object.entries(data ?? {})) values.set(prefix + key, String(value));
  }
  for (const variable of container.env ?? []) {
    const value = textOf(variable, pod, sources);
    if (value !== undefined) values.set(variable.name, variable.valueFrom ? value : expanded(value, values));
  }
  return values;
}

function textOf({ name, value, valueFrom }: VariableJson, pod: PodJson, sources: VolumeSources): string | undefined {
  if (!valueFrom) return value ?? '';
  const { fieldRef, secretKeyRef, configMapKeyRef } = valueFrom;
  if (fieldRef) return fieldOf(pod, fieldRef.fieldPath);
  if (secretKeyRef) return keyOf(sources, pod, 'secret', secretKeyRef);
  if (configMapKeyRef) return keyOf(sources, pod, 'configMap', configMapKeyRef);
  throw new Error(
    `pod ${pod.metadata.name}: variable ${name} comes from ${Object.keys(valueFrom)}, which is not known`,
  );
}

/** `$(NAME)` is a variable's value where there is one; `$$(NAME)` is the text `$(NAME)`. */
function expanded(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/\$(\$)?\(([^()]*)\)/g, (all, escaped: string | undefined, name: string) =>
    escaped ? all.slice(1) : (values.get(name) ?? all),
  );
}

/** Replaces a mount's path by the volume's folder wherever a path in the text begins with it. */
function relocation(container: ContainerJson, pod: PodJson, folder: string, values: ReadonlyMap<string, string>) {
  const places = new Map<string, string>();
  for (const { name, mountPath, subPath, subPathExpr } of container.volumeMounts ?? []) {
    if (!pod.spec.volumes?.some((volume) => volume.name === name)) {
      throw new Error(`pod ${pod.metadata.name}: container ${container.name} mounts ${name}, which is no volume of it`);
    }
    const inside = subPath ?? (subPathExpr === undefined ? '' : expanded(subPathExpr, values));
    const place = join(folder, name, inside);
    // The kubelet also creates a missing subPath.
    if (!existsSync(place)) mkdirSync(place, { recursive: true });
    places.set(mountPath.replace(/\/+$/, ''), place);
  }
  if (places.size === 0) return (text: string) => text;
  // The longest path first, since one mount can be inside another.
  const paths = [...places.keys()].sort((a, b) => b.length - a.length).map((path) => path.replace(/[^\w/]/g, '\\$&'));
  // Not within a longer path, nor in a URL such as http://host/mnt.
  const mounted = new RegExp(`(?<![\\w./-])(${paths.join('|')})(?![\\w.-])`, 'g');
  return (text: string) => text.replace(mounted, (path) => places.get(path) ?? path);
}
