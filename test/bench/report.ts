/** Owns the output of a benchmark: figures with their targets, as a table and as JSON. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/** The latencies of the stand-ins: IAM and STS by action, and Domino. */
export const latency = {
  GetRole: 60,
  UpdateAssumeRolePolicy: 120,
  AssumeRoleWithWebIdentity: 30,
  AssumeRole: 30,
  domino: 5,
};
/** One IAM read and one IAM write, which every first grant needs. */
export const boundMs = latency.GetRole + latency.UpdateAssumeRolePolicy;

export interface Figure {
  name: string;
  value: number;
  unit: string;
  /** Its target: at most, or at least. */
  target?: { atMost: number } | { atLeast: number };
}

export interface Report {
  figures: Figure[];
  /** Errors: lost runs and failed requests. Empty when there are none. */
  wrong: string[];
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}

export const median = (values: readonly number[]) => percentile(values, 0.5);

function isMet({ target, value }: Figure): boolean | undefined {
  if (!target) return undefined;
  return 'atMost' in target ? value <= target.atMost : value >= target.atLeast;
}

const shown = (value: number) => {
  if (Number.isInteger(value)) return String(value);
  return value.toFixed(Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0);
};

export function table(name: string, { figures, wrong }: Report): string {
  const rows = figures.map((figure) => {
    const { target, unit, value } = figure;
    const wanted = !target ? '' : 'atMost' in target ? `<= ${shown(target.atMost)}` : `>= ${shown(target.atLeast)}`;
    const met = isMet(figure);
    return [
      figure.name,
      `${shown(value)} ${unit}`.trim(),
      wanted && `${wanted} ${unit}`.trim(),
      unit === 'ms' ? `${(value / boundMs).toFixed(2)}` : '',
      met === undefined ? '' : met ? 'yes' : 'NO',
    ];
  });
  const all = [[name, 'figure', 'target', `/ ${boundMs} ms`, 'met'], ...rows];
  const widths = all[0]?.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0))) ?? [];
  const lines = all.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  '),
  );
  lines.splice(1, 0, widths.map((width) => '-'.repeat(width)).join('  '));
  return [...lines, ...wrong.map((one) => `WRONG: ${one}`)].join('\n');
}

export function save(name: string, { figures, wrong }: Report): void {
  const folder = new URL('results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const report = {
    bench: name,
    date: new Date().toISOString(),
    commit: commit(),
    node: process.version,
    cpus: cpus().length,
    conditions: { latency_ms: latency, bound_ms: boundMs },
    figures: figures.map((figure) => {
      const met = isMet(figure);
      const rounded = Number(figure.value.toFixed(3));
      const toBound = figure.unit === 'ms' ? { to_bound: Number((figure.value / boundMs).toFixed(2)) } : {};
      return { ...figure, value: rounded, ...toBound, ...(met === undefined ? {} : { met }) };
    }),
    wrong,
  };
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify(report, null, 2)}\n`);
}

/** `unknown` outside a repository; `+` means that the service's sources differed from the commit. */
function commit(): string {
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: fileURLToPath(new URL('.', import.meta.url)),
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  try {
    const changed = git('status', '--porcelain', '--', '../../src', '../../routes', '../../package.json');
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? '+' : ''}`;
  } catch {
    return 'unknown';
  }
}
