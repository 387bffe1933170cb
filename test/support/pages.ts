/** Owns reading of the project's pages for tests: headings, links and tables. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));
export const textOf = (path: string) => readFileSync(join(root, path), 'utf8');

/** The text without fenced code, which has no links or headings. */
const prose = (text: string) => text.replace(/^( *)```[\s\S]*?^\1```$/gm, '');

/** The anchors that GitHub makes: https://docs.github.com/en/get-started/writing-on-github, "Section links". */
export function anchorsOf(text: string): Set<string> {
  const anchors = new Set<string>();
  for (const [, heading = ''] of prose(text).matchAll(/^#+ +(.*?) *#*$/gm)) {
    const plain = heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').toLowerCase();
    const anchor = plain.replace(/[^\p{L}\p{N}\p{M}_ -]/gu, '').replaceAll(' ', '-');
    let free = anchor;
    for (let count = 1; anchors.has(free); count += 1) free = `${anchor}-${count}`;
    anchors.add(free);
  }
  return anchors;
}

export function linksOf(text: string): string[] {
  const inline = prose(text).replace(/`[^`\n]*`/g, 'code');
  return [...inline.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target);
}

/** The text under a heading, up to the next heading of the same level or higher. */
export function section(text: string, heading: string): string {
  const [, depth = '', rest = ''] = new RegExp(`^(#+) ${heading}\n([\\s\\S]*)`, 'm').exec(text) ?? [];
  assert.ok(depth, `there is a heading "${heading}"`);
  return rest.split(new RegExp(`^#{1,${depth.length}} `, 'm'))[0] ?? '';
}

/** The rows of a section's tables as lists of cells, without the header rows. */
export function rowsOf(text: string): string[][] {
  const lines = text.split('\n').filter((line) => line.startsWith('|'));
  const isRule = (line: string | undefined) => line !== undefined && /^[|\s:-]+$/.test(line) && line.includes('---');
  const rows = lines.filter((line, index) => !isRule(line) && !isRule(lines[index + 1]));
  return rows.map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

export const numberOf = (cell: string | undefined) => Number((cell ?? '').replaceAll(',', ''));
