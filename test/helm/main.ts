/** Owns the check of the chart with its own tools: lint, render, schemas, golden files. What cannot run here says so. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { goldenDifference, updateGolden, valuesFiles } from './golden.ts';
import { chart, renderFiles } from './render.ts';
import { kubernetesVersions, makeSchemas } from './schemas.ts';
import { installTools, run, toolPath } from './tools.ts';

let failures = 0;
const say = (line: string) => process.stdout.write(`${line}\n`);
const fail = (line: string) => {
  failures += 1;
  say(`FAILED: ${line}`);
};

const update = process.argv.includes('--update');
const missing = installTools();
for (const [name, why] of missing) say(`SKIPPED: what needs ${name}: ${why}`);
const helm = toolPath('helm');
const kubeconform = toolPath('kubeconform');

if (helm) {
  for (const [name, file] of valuesFiles) lint(helm, name, file);
  for (const name of valuesFiles.keys()) compare(name);
  if (kubeconform) conform(kubeconform);
}
if (failures > 0) say(`${failures} failed`);
else say(helm ? 'the chart is as it should be' : 'SKIPPED: nothing of the chart was checked');
process.exitCode = failures === 0 ? 0 : 1;

function lint(program: string, name: string, file: string): void {
  const { status, stdout, stderr } = run(program, ['lint', '--strict', '--quiet', chart, '-f', file]);
  if (status === 0) say(`lint ${name}: ok`);
  else fail(`lint ${name}\n${stdout}${stderr}`);
}

function compare(name: string): void {
  if (update) updateGolden(name);
  const difference = goldenDifference(name);
  if (difference === undefined) say(`golden ${name}: ${update ? 'written' : 'ok'}`);
  else fail(`golden ${name}, ${difference}`);
}

/** Checks every object against every Kubernetes version; only a schema that could not be obtained is skipped. */
function conform(program: string): void {
  const { location, missing: lacking } = makeSchemas();
  for (const why of lacking) say(`SKIPPED: schemas of ${why}`);
  const folder = mkdtempSync(join(tmpdir(), 'irsa-rendered-'));
  for (const [name, file] of valuesFiles) {
    writeFileSync(
      join(folder, `${name}.yaml`),
      renderFiles(file)
        .map((object) => stringify(object))
        .join('---\n'),
    );
  }
  for (const version of kubernetesVersions) {
    const lenient = lacking.length > 0 ? ['-ignore-missing-schemas'] : [];
    const args = ['-strict', '-summary', '-schema-location', location(version), ...lenient, folder];
    const { status, stdout, stderr } = run(program, args);
    if (status === 0) say(`kubeconform, Kubernetes ${version}: ${stdout.trim()}`);
    else fail(`kubeconform, Kubernetes ${version}\n${stdout}${stderr}`);
  }
  rmSync(folder, { recursive: true, force: true });
}
