/** Owns the golden files: for each file of values, the objects that the chart renders, as a person reviewed them. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { parse, stringify } from 'yaml';
import { chart, type Rendered, renderFiles } from './render.ts';

const folder = join(import.meta.dirname, 'values');

/** The matrix: each file's name without its end, and its path. */
export const valuesFiles: ReadonlyMap<string, string> = new Map(
  readdirSync(folder)
    .filter((file) => file.endsWith('.yaml'))
    .sort()
    .map((file) => [basename(file, '.yaml'), join(folder, file)]),
);

export const goldenFile = (name: string) => join(import.meta.dirname, 'golden', `${name}.yaml`);

/** What the chart renders for a file of values, as its golden file should say it. */
export function goldenText(name: string): string {
  const file = valuesFiles.get(name) ?? '';
  const objects = renderFiles(file).map(abridged);
  const documents = objects.map((object) => stringify(object, { lineWidth: 0, aliasDuplicateObjects: false }));
  return `# Rendered with test/helm/values/${name}.yaml. To renew it: .ci/helm --update\n${documents.join('---\n')}`;
}

/** @returns the first line in which they differ; undefined when they say the same. */
export function goldenDifference(name: string): string | undefined {
  const wanted = existsSync(goldenFile(name)) ? readFileSync(goldenFile(name), 'utf8') : '';
  const actual = goldenText(name);
  if (wanted === actual) return undefined;
  const lines = wanted.split('\n');
  const at = actual.split('\n').findIndex((line, index) => line !== lines[index]);
  return `line ${at + 1}: golden ${JSON.stringify(lines[at])}, rendered ${JSON.stringify(actual.split('\n')[at])}`;
}

export function updateGolden(name: string): void {
  writeFileSync(goldenFile(name), goldenText(name));
}

/** Files of the chart that are rendered as they are need no second copy. */
function abridged(object: Rendered): unknown {
  if (isDeepStrictEqual(object.spec, alerts.spec)) return { ...object, spec: `<${alertsFile}>` };
  if (object.kind !== 'ConfigMap' || !object.data) return object;
  const data = Object.entries(object.data as Record<string, string>).map(([key, text]) => {
    const same = copied.find((file) => textOf(file).trim() === text.trim());
    return [key, same ? `<${same}>` : text];
  });
  return { ...object, data: Object.fromEntries(data) as unknown };
}

const alertsFile = 'files/monitoring/alerts.yaml';
const copied = ['files/monitoring/grafana-dashboard.json'];
const textOf = (file: string) => readFileSync(join(chart, file), 'utf8');
const alerts = parse(textOf(alertsFile)) as { spec: unknown };
