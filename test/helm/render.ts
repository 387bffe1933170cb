/** Owns the rendering of the chart by helm itself: values in, Kubernetes objects or a refusal out. */
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { kubernetesMinor, root, run, toolPath } from './tools.ts';

export const chart = join(root, 'deploy', 'helm', 'irsa');
export const release = { name: 'irsa', namespace: 'domino-field' };

/** A rendered object, as JSON. */
export interface Rendered {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
  };
  [field: string]: unknown;
}

export type Values = Record<string, unknown>;

/** The least values that an installation needs. */
export const leastValues = {
  image: { repository: 'registry.example.com/irsa-svc' },
  env: {
    eks_aws_account: '111111111111',
    eks_service_role_name: 'acme-irsa-svc',
    oidc_provider: 'oidc.eks.us-west-2.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF',
    domino_issuer: 'https://domino.acme.example/auth/realms/DominoRealm',
    aws_region: 'us-west-2',
  },
} satisfies Values;

/** The values cannot be used; `message` is what helm tells its user. */
export class RenderError extends Error {}

/** Why the chart cannot be rendered here; undefined where it can. */
export function helmMissing(): string | undefined {
  return toolPath('helm') ? undefined : 'helm is not here: .ci/helm builds it, with Go';
}

/**
 * The chart's objects as `helm template` renders them.
 * @param values over `leastValues`, merged as helm merges files.
 * @throws RenderError
 */
export function renderChart(values: Values = {}): Rendered[] {
  return objectsIn(template(chart, [leastValues, values]));
}

/** The chart's objects with these values files alone. @throws RenderError */
export function renderFiles(...files: string[]): Rendered[] {
  return objectsIn(helm(['template', release.name, chart, ...where, ...files.flatMap((file) => ['-f', file])]));
}

/** The notes of an installation. Helm prints them for a cluster alone, so a copy of the chart renders them as YAML. */
export function renderNotes(values: Values = {}): string {
  return inFolder((folder) => {
    const copy = join(folder, 'irsa');
    cpSync(chart, copy, { recursive: true });
    const include = '{{ include (print $.Template.BasePath "/NOTES.txt") . | nindent 2 }}';
    writeFileSync(join(copy, 'templates', 'notes.yaml'), `kind: Notes\nnotes: |-${include}\n`);
    const notes = objectsIn(template(copy, [leastValues, values])).find(({ kind }) => kind === 'Notes');
    return String(notes?.notes).trim();
  });
}

/** Finds one object; all of a kind and name, in whatever namespace, must be one. */
export function objectNamed<T = Rendered>(objects: readonly Rendered[], kind: string, name: string): T {
  const found = objects.filter((object) => object.kind === kind && object.metadata.name === name);
  if (found.length !== 1) throw new Error(`${found.length} objects are ${kind} ${name}`);
  return found[0] as T;
}

const where = ['-n', release.namespace, '--kube-version', `1.${kubernetesMinor}.0`];

function template(folder: string, layers: readonly Values[]): string {
  return inFolder((temporary) => {
    const files = layers.map((layer, index) => {
      const file = join(temporary, `values-${index}.json`);
      writeFileSync(file, JSON.stringify(layer));
      return ['-f', file];
    });
    return helm(['template', release.name, folder, ...where, ...files.flat()]);
  });
}

function helm(args: readonly string[]): string {
  const program = toolPath('helm');
  if (!program) throw new Error(helmMissing());
  const { status, stdout, stderr } = run(program, args);
  if (status !== 0) throw new RenderError(stderr);
  return stdout;
}

function objectsIn(text: string): Rendered[] {
  return parseAllDocuments(text).flatMap((document) => {
    if (!('contents' in document)) return [];
    if (document.errors.length > 0) throw document.errors[0];
    const object = document.toJS() as Rendered | null;
    return object ? [object] : [];
  });
}

function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-chart-'));
  try {
    return use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
