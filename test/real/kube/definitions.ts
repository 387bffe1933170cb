/** Owns the CustomResourceDefinitions that a real API server needs for the chart: their projects', and one drafted for domsed. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { crds } from '../../helm/schemas.ts';
import { mutationSchemaFile } from '../../stack/domsed-schema.ts';
import { until } from '../../support/clock.ts';
import { run } from '../tools.ts';
import type { RealCluster } from './cluster.ts';

interface Definition {
  metadata: { name: string };
}

/** Creates them, and waits until they are served. @throws Unavailable where a project's module cannot be obtained. */
export async function defineResources(cluster: RealCluster): Promise<void> {
  const path = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';
  const definitions = [mutationDefinition(), ...crds.flatMap(({ module, files }) => definitionsIn(module, files))];
  for (const definition of definitions) await cluster.must('POST', path, definition);
  for (const { metadata } of definitions) {
    await until(async () => {
      const { status } = await cluster.must('GET', `${path}/${metadata.name}`);
      const { conditions } = status as { conditions: { type: string; status: string }[] | null };
      return conditions?.some((one) => one.type === 'Established' && one.status === 'True') === true;
    }, 30_000);
  }
}

function definitionsIn(module: string, files: readonly string[]): Definition[] {
  const { Dir: folder } = JSON.parse(run('go', ['mod', 'download', '-json', module]).stdout) as { Dir: string };
  return files.map((file) => parse(readFileSync(join(folder, file), 'utf8')) as Definition);
}

function mutationDefinition(): Definition {
  const drafted = structural(JSON.parse(readFileSync(mutationSchemaFile, 'utf8'))) as { properties: object };
  // The API server knows these itself, and lets a CRD say no more of them.
  const text = { type: 'string' };
  const ofAll = { apiVersion: text, kind: text, metadata: { type: 'object' } };
  const openAPIV3Schema = { ...drafted, properties: { ...drafted.properties, ...ofAll } };
  const names = { kind: 'Mutation', plural: 'mutations', singular: 'mutation', listKind: 'MutationList' };
  const spec = {
    group: 'apps.dominodatalab.com',
    scope: 'Namespaced',
    names,
    versions: [{ name: 'v1alpha1', served: true, storage: true, schema: { openAPIV3Schema } }],
  };
  const metadata = { name: 'mutations.apps.dominodatalab.com' };
  return { apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata, spec } as Definition;
}

/** JSON Schema as a CRD may have it: what it does not name, the API server drops or refuses by itself. */
function structural(node: unknown, isName = false): unknown {
  if (Array.isArray(node)) return node.map((item) => structural(item));
  if (typeof node !== 'object' || node === null) return node;
  const isKept = ([key, value]: [string, unknown]) =>
    isName || !(key === '$schema' || key === 'title' || (key === 'additionalProperties' && value === false));
  return Object.fromEntries(
    Object.entries(node)
      .filter(isKept)
      .map(([key, value]) => [key, structural(value, !isName && key === 'properties')]),
  );
}
