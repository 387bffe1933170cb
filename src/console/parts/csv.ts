/** Owns the text of CSV files. Pure. */

/** Writes RFC 4180. A spreadsheet would run a cell with such a first character as a formula: a quote mark before it prevents that. */
export function csvOf(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const cell = (text: string) => `"${(/^[=+\-@\t\r]/.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
  return [header, ...rows].map((row) => `${row.map(cell).join(',')}\r\n`).join('');
}
