/** Owns the text of a file for a spreadsheet. Pure. */

/** As RFC 4180 has it. A spreadsheet takes a cell that begins so for a formula: a quote mark before it stops that. */
export function csvOf(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  return [header, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}
