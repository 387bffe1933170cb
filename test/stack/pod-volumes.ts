/** Owns a pod's volumes on disk: writes their files as the kubelet does. */
import { mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { PodTokenOptions } from './issuer.ts';
import { type DataKind, dataOf, fieldOf, type PodData } from './pod-fields.ts';
import type { Named, PodJson } from './pod-json.ts';

export interface VolumeSources extends PodData {
  /** The cluster issuer's. */
  readonly podToken: (options: PodTokenOptions) => Promise<string>;
}

interface Item {
  readonly key: string;
  readonly path: string;
}

interface Projection {
  readonly serviceAccountToken?: { audience?: string; expirationSeconds?: number; path: string };
  readonly downwardAPI?: { items?: readonly { path: string; fieldRef?: { fieldPath: string } }[] };
  readonly configMap?: { name?: string; items?: readonly Item[]; optional?: boolean };
  readonly secret?: { name?: string; secretName?: string; items?: readonly Item[]; optional?: boolean };
}

type Files = Record<string, string | Buffer>;

/**
 * Writes a volume into a folder, and replaces its files if they exist. An emptyDir keeps the files that processes wrote. The pod
 * does not define the content of other volumes (claims, host paths), so they begin as empty folders too.
 */
export async function writeVolume(folder: string, volume: Named, pod: PodJson, sources: VolumeSources): Promise<void> {
  mkdirSync(folder, { recursive: true });
  const { projected, ...rest } = volume as Named & { projected?: { sources?: readonly Projection[] } };
  const projections = projected ? (projected.sources ?? []) : [rest as Projection];
  const files: Files = {};
  for (const projection of projections) Object.assign(files, await projectedFiles(projection, pod, sources));
  const isData = ['projected', 'downwardAPI', 'configMap', 'secret'].some((source) => volume[source] !== undefined);
  if (isData) replaceFiles(folder, files);
}

async function projectedFiles(projection: Projection, pod: PodJson, sources: VolumeSources): Promise<Files> {
  const { serviceAccountToken: token, downwardAPI, configMap, secret } = projection;
  const files: Files = {};
  if (token) {
    const { name = '', namespace = 'default', uid } = pod.metadata;
    files[token.path] = await sources.podToken({
      namespace,
      serviceAccount: pod.spec.serviceAccountName ?? 'default',
      pod: name,
      ...(uid === undefined ? {} : { podUid: uid }),
      audience: token.audience ?? 'https://kubernetes.default.svc',
      expiresInSeconds: token.expirationSeconds ?? 3600,
    });
  }
  for (const { path, fieldRef } of downwardAPI?.items ?? []) {
    if (!fieldRef) throw new Error(`pod ${pod.metadata.name}: ${path}: only fieldRef is laid out`);
    files[path] = fieldOf(pod, fieldRef.fieldPath);
  }
  if (configMap) Object.assign(files, dataFiles('configMap', configMap, pod, sources));
  if (secret)
    Object.assign(
      files,
      dataFiles('secret', { ...secret, name: secret.name ?? secret.secretName ?? '' }, pod, sources),
    );
  return files;
}

function dataFiles(
  kind: DataKind,
  reference: NonNullable<Projection['configMap']>,
  pod: PodJson,
  sources: VolumeSources,
): Files {
  const data = dataOf(sources, pod, kind, reference) ?? {};
  const items = reference.items ?? Object.keys(data).map((key) => ({ key, path: key }));
  const files: Files = {};
  for (const { key, path } of items) {
    const value = data[key];
    if (value !== undefined) files[path] = value;
    else if (!reference.optional)
      throw new Error(`pod ${pod.metadata.name}: no key ${key} in ${kind} ${reference.name}`);
  }
  return files;
}

/**
 * Writes like the kubelet's atomic writer: the files are in a new folder, the link `..data` to it is replaced in one step, and
 * the pod sees links through `..data`.
 */
function replaceFiles(folder: string, files: Files): void {
  const before = readdirSync(folder).filter((name) => name.startsWith('..') && name !== '..data');
  const moment = `..${process.hrtime.bigint()}`;
  mkdirSync(join(folder, moment));
  for (const [path, content] of Object.entries(files)) {
    mkdirSync(join(folder, moment, dirname(path)), { recursive: true });
    writeFileSync(join(folder, moment, path), content);
  }
  symlinkSync(moment, join(folder, '..data_tmp'));
  renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
  const tops = new Set(Object.keys(files).map((path) => path.split('/')[0] ?? path));
  const seen = readdirSync(folder).filter((name) => !name.startsWith('..'));
  for (const name of seen) if (!tops.has(name)) rmSync(join(folder, name));
  for (const name of tops) if (!seen.includes(name)) symlinkSync(join('..data', name), join(folder, name));
  for (const name of before) rmSync(join(folder, name), { recursive: true });
}
