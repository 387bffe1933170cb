/** Owns the paging of long answers: at most `limit` items of an ordered list, and a cursor for the next page. Pure. */

export interface PageQuery {
  limit: number;
  /** The key of the last item on the previous page. */
  after: string | undefined;
}

export interface Page<T> {
  items: T[];
  /** The value to send as `continue`; undefined on the last page. */
  next: string | undefined;
}

const usualLimit = 100;

/** @param query checked by the contract: `limit` is a number, but a client may have made `continue` up. */
export function pageQuery(query: Readonly<Record<string, unknown>>): PageQuery {
  const { limit = usualLimit, continue: cursor } = query;
  const after = cursor === undefined ? undefined : Buffer.from(String(cursor), 'base64url').toString();
  return { limit: Number(limit), after };
}

/**
 * @param all in the order of their keys. A key marks where the next page begins even when its item is gone by then.
 * @param order whether the keys ascend or descend.
 */
export function pageOf<T>(
  all: readonly T[],
  keyOf: (item: T) => string,
  { limit, after }: PageQuery,
  order: 'ascending' | 'descending',
): Page<T> {
  const isLater = (key: string, than: string) => (order === 'ascending' ? key > than : key < than);
  const start = after === undefined ? 0 : all.findIndex((item) => isLater(keyOf(item), after));
  const items = start < 0 ? [] : all.slice(start, start + limit);
  const last = items.at(-1);
  const hasMore = last !== undefined && start + items.length < all.length;
  return { items, next: hasMore ? Buffer.from(keyOf(last)).toString('base64url') : undefined };
}
