/** Owns the tables of the pages that are made from the code: settings, errors, metrics and reasons. Pure. */
import { z } from 'zod';
import { remedyOfCode, statusOfCode } from '../../src/lib/errors.ts';
import { createMetrics } from '../../src/lib/metrics.ts';
import { settings } from '../../src/lib/settings.ts';
import { accessAdvice, podIdentityAdvice } from '../../src/reports/advice.ts';

/** By name, as the marks in the pages name them. */
const tables: Readonly<Record<string, () => string>> = {
  settings: () => table(['name', 'default', 'what', 'form'], Object.entries(settings.shape).map(settingRow)),
  errors: () => table(['status', 'code', 'what to do'], errorRows()),
  metrics: () => table(['metric', 'kind', 'what'], metricRows()),
  'access-reasons': () => table(['code', 'what to do'], adviceRows(accessAdvice)),
  'pod-identity-reasons': () => table(['code', 'what to do'], adviceRows(podIdentityAdvice)),
};

const mark = /(<!-- table: ([\w-]+)\b[^>]*-->\n)[\s\S]*?(<!-- end -->)/g;

/** @returns the page with each marked table as the code has it. @throws Error for a mark that names no table. */
export function withTables(page: string): string {
  return page.replace(mark, (_, first: string, name: string, last: string) => {
    const made = tables[name];
    if (!made) throw new Error(`there is no table ${name}`);
    return `${first}${made()}${last}`;
  });
}

/** The names of the tables that a page has. */
export const tablesOf = (page: string) => [...page.matchAll(mark)].map(([, , name = '']) => name);
export const tableNames = Object.keys(tables);

function settingRow([name, schema]: [string, z.ZodType]): string[] {
  const given = schema instanceof z.ZodDefault ? `\`${schema.def.defaultValue}\`` : 'required';
  // The refusal of what is no string at all says what is expected.
  const [, form = ''] = /^expected (.*)/.exec(schema.safeParse(0).error?.issues[0]?.message ?? '') ?? [];
  return [
    `\`${name}\``,
    schema instanceof z.ZodOptional ? 'none' : given,
    schema.description ?? '',
    form.replaceAll('<', '&lt;'),
  ];
}

function errorRows(): string[][] {
  const codes = Object.keys(statusOfCode) as (keyof typeof statusOfCode)[];
  return codes.map((code) => [String(statusOfCode[code]), `\`${code}\``, remedyOfCode[code]]);
}

function metricRows(): string[][] {
  const { registry, ...own } = createMetrics();
  registry.clear();
  return Object.values(own).map((metric) => {
    const { name, help, labelNames } = metric as unknown as { name: string; help: string; labelNames: string[] };
    const labels = labelNames.length > 0 ? `{${labelNames.join(',')}}` : '';
    return [`\`${name}${labels}\``, metric.constructor.name.toLowerCase(), `${help}.`];
  });
}

const adviceRows = (advice: Readonly<Record<string, string>>) =>
  Object.entries(advice).map(([code, what]) => [`\`${code}\``, what]);

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |\n`;
  return `\n${line(heads)}|${heads.map(() => '---|').join('')}\n${rows.map(line).join('')}\n`;
}
