/**
 * Owns the JSON schemas that kubeconform checks rendered objects with, in a folder of the cache: Kubernetes' own from a
 * Python package that bundles them, custom resources' from the CRDs in their projects' Go modules.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { mutationSchemaFile } from '../stack/domsed-schema.ts';
import { run, toolsFolder } from './tools.ts';

/** The oldest release that the chart installs on, and the newest that has schemas. */
export const kubernetesVersions = ['1.30.0', '1.37.0'] as const;
const bundle = 'kubernetes-validate';
const bundleVersion = '1.37.0';
/** Of the custom resources that the chart renders, but for domsed's. */
export const crds = [
  {
    module: 'github.com/cert-manager/cert-manager@v1.21.2',
    files: ['cert-manager.io_certificates.yaml', 'cert-manager.io_issuers.yaml'].map((file) => `deploy/crds/${file}`),
  },
  {
    module: 'github.com/cert-manager/trust-manager@v0.25.0',
    files: ['deploy/crds/trust.cert-manager.io_bundles.yaml'],
  },
  {
    module: 'sigs.k8s.io/gateway-api@v1.4.1',
    files: ['httproutes', 'backendtlspolicies'].map(
      (kind) => `config/crd/standard/gateway.networking.k8s.io_${kind}.yaml`,
    ),
  },
  {
    module: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
    files: ['servicemonitors', 'prometheusrules'].map(
      (kind) => `example/prometheus-operator-crd/monitoring.coreos.com_${kind}.yaml`,
    ),
  },
];

type Schema = Record<string, unknown>;

interface Crd {
  spec: {
    group: string;
    names: { kind: string };
    versions: { name: string; schema: { openAPIV3Schema: Schema } }[];
  };
}

export interface Schemas {
  /** For kubeconform's -schema-location, by Kubernetes version. */
  location(version: string): string;
  /** Why some are missing, one a line. */
  missing: string[];
}

/** Makes what the cache lacks. */
export function makeSchemas(): Schemas {
  const folder = join(toolsFolder, 'schemas');
  const missing: string[] = [];
  for (const version of kubernetesVersions) {
    const target = join(folder, version);
    mkdirSync(target, { recursive: true });
    // The kind that was added last: a cache from before lacks it.
    const isComplete = existsSync(
      join(target, fileOf('ValidatingAdmissionPolicy', 'admissionregistration.k8s.io', 'v1')),
    );
    const problem = isComplete ? undefined : kubernetes(version, target);
    if (problem) missing.push(`Kubernetes ${version}: ${problem}`);
    for (const { module, files } of crds) {
      const found = files.every((file) => existsSync(join(target, stampOf(module, file))));
      const trouble = found ? undefined : customResources(module, files, target);
      if (trouble) missing.push(`${module}: ${trouble}`);
    }
    // Drafted in this repository, so it is always current.
    const mutation = readFileSync(mutationSchemaFile, 'utf8');
    writeFileSync(join(target, fileOf('Mutation', 'apps.dominodatalab.com', 'v1alpha1')), mutation);
  }
  const pattern = '{{.ResourceKind}}{{.KindSuffix}}.json';
  return { location: (version) => join(folder, version, pattern), missing: [...new Set(missing)] };
}

/** As kubeconform names them: the group's first word alone. */
const fileOf = (kind: string, group: string, version: string) =>
  `${[kind.toLowerCase(), group.split('.')[0], version].filter((part) => part !== '').join('-')}.json`;

const stampOf = (module: string, file: string) => `.${`${module}-${file}`.replaceAll(/[^\w.@-]/g, '_')}`;

/** One file a kind, each with all definitions in it, since the bundle's own files point at a web site. */
function kubernetes(version: string, target: string): string | undefined {
  const folder = join(toolsFolder, bundle);
  const source = join(folder, 'kubernetes_validate', 'kubernetes-json-schema', `v${version}-local-strict`);
  if (!existsSync(source)) {
    rmSync(folder, { recursive: true, force: true });
    const wanted = [`${bundle}==${bundleVersion}`, '--no-deps', '--disable-pip-version-check', '-q', '-d', folder];
    const got = run('python3', ['-m', 'pip', 'download', ...wanted]);
    if (got.status !== 0) return got.error ? 'Python is not here to fetch them' : got.stderr.trim();
    const [wheel = ''] = readdirSync(folder);
    const unpacked = run('python3', ['-m', 'zipfile', '-e', join(folder, wheel), folder]);
    if (unpacked.status !== 0) return unpacked.stderr;
  }
  const { $defs } = JSON.parse(readFileSync(join(source, '_definitions.json'), 'utf8')) as { $defs: Schema };
  for (const [name, definition] of Object.entries($defs)) {
    const kinds = (definition as Schema)['x-kubernetes-group-version-kind'] as
      | { group: string; kind: string; version: string }[]
      | undefined;
    const [only, ...others] = kinds ?? [];
    if (!only || others.length > 0 || only.kind.endsWith('List')) continue;
    const schema = { $schema: 'https://json-schema.org/draft/2020-12/schema', $ref: `#/$defs/${name}`, $defs };
    if (rendered.has(only.kind)) {
      writeFileSync(join(target, fileOf(only.kind, only.group, only.version)), JSON.stringify(schema));
    }
  }
  return undefined;
}

/** What the chart renders of Kubernetes' own kinds: each schema is a megabyte. */
const rendered = new Set([
  ...['ConfigMap', 'Deployment', 'Ingress', 'NetworkPolicy', 'Pod', 'PodDisruptionBudget'],
  ...['Role', 'RoleBinding', 'Service', 'ServiceAccount'],
  ...['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding'],
]);

function customResources(module: string, files: readonly string[], target: string): string | undefined {
  const got = run('go', ['mod', 'download', '-json', module]);
  if (got.status !== 0) return got.error ? 'Go is not here to fetch it' : got.stdout || got.stderr;
  const { Dir: folder } = JSON.parse(got.stdout) as { Dir: string };
  for (const file of files) {
    const { spec } = parse(readFileSync(join(folder, file), 'utf8')) as Crd;
    for (const { name, schema } of spec.versions) {
      const strict = strictly(schema.openAPIV3Schema);
      writeFileSync(join(target, fileOf(spec.names.kind, spec.group, name)), JSON.stringify(strict));
    }
    writeFileSync(join(target, stampOf(module, file)), '');
  }
  return undefined;
}

/** A CRD's schema as JSON Schema in which a field that it does not name is an error, as with kubectl's validation. */
function strictly(node: unknown, isName = false): unknown {
  if (Array.isArray(node)) return node.map((item) => strictly(item));
  if (typeof node !== 'object' || node === null) return node;
  const schema = Object.fromEntries(
    Object.entries(node).map(([key, value]) => [key, strictly(value, !isName && key === 'properties')]),
  );
  if (isName) return schema;
  if (schema['x-kubernetes-int-or-string']) return { anyOf: [{ type: 'integer' }, { type: 'string' }] };
  const isOpen = schema['x-kubernetes-preserve-unknown-fields'] || schema.additionalProperties !== undefined;
  if (schema.type !== 'object' || !schema.properties || isOpen) return schema;
  return { ...schema, additionalProperties: false };
}
