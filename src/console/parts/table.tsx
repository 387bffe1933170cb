/** Owns the table component: columns, a filter, 50 rows at a time, and a caption that a screen reader reads first. */
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';

export interface Column<T> {
  readonly name: string;
  readonly cell: (row: T) => ComponentChildren;
  /** A number, aligned to the right. */
  readonly isNumber?: boolean;
}

const rowsAPage = 50;

interface TableProps<T> {
  readonly caption: string;
  readonly rows: readonly T[];
  readonly columns: readonly Column<T>[];
  readonly keyOf: (row: T) => string;
  /** The text that the filter searches; without it, the table has no filter. */
  readonly textOf?: (row: T) => string;
  readonly empty: string;
}

export function Table<T>({ caption, rows, columns, keyOf, textOf, empty }: TableProps<T>) {
  const [filter, setFilter] = useState('');
  const [page, setPage] = useState(0);
  const wanted = filter.trim().toLowerCase();
  const found = wanted === '' || !textOf ? rows : rows.filter((row) => textOf(row).toLowerCase().includes(wanted));
  const pages = Math.max(1, Math.ceil(found.length / rowsAPage));
  const at = Math.min(page, pages - 1);
  const shown = found.slice(at * rowsAPage, (at + 1) * rowsAPage);
  return (
    <div class="table">
      {textOf && rows.length > 5 && (
        <label class="filter">
          Filter {caption.toLowerCase()}
          <input type="search" value={filter} onInput={(event) => setFilter(event.currentTarget.value)} />
        </label>
      )}
      <div class="scroll">
        <table>
          <caption>
            {caption} <small>{found.length === rows.length ? rows.length : `${found.length} of ${rows.length}`}</small>
          </caption>
          <thead>
            <tr>
              {columns.map(({ name, isNumber }) => (
                <th key={name} scope="col" class={isNumber ? 'number' : undefined}>
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.map((row) => (
              <Row key={keyOf(row)} row={row} columns={columns} />
            ))}
          </tbody>
        </table>
      </div>
      {found.length === 0 && <p class="faint">{rows.length === 0 ? empty : 'Nothing matches the filter.'}</p>}
      {pages > 1 && <Pager caption={caption} page={at} pages={pages} onPage={setPage} />}
    </div>
  );
}

function Row<T>({ row, columns }: { row: T; columns: readonly Column<T>[] }) {
  return (
    <tr>
      {columns.map(({ name, cell, isNumber }) => (
        <td key={name} class={isNumber ? 'number' : undefined} data-name={name}>
          {cell(row)}
        </td>
      ))}
    </tr>
  );
}

interface PagerProps {
  readonly caption: string;
  readonly page: number;
  readonly pages: number;
  readonly onPage: (page: number) => void;
}

function Pager({ caption, page, pages, onPage }: PagerProps) {
  return (
    <nav class="pager" aria-label={`Pages of ${caption.toLowerCase()}`}>
      <button type="button" disabled={page === 0} onClick={() => onPage(page - 1)}>
        Previous
      </button>
      <span aria-live="polite">
        {page + 1} of {pages}
      </span>
      <button type="button" disabled={page === pages - 1} onClick={() => onPage(page + 1)}>
        Next
      </button>
    </nav>
  );
}
