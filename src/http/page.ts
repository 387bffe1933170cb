/** Owns the paging of long answers: at most `limit` of an ordered list, and where the next page begins. Pure. */

export interface PageQuery {
  limit: number;
  /** The key of the last item of the page before. */
  after: string | undefined;
}

export interface Page<T> {
  items: T[];
  /** What to send as `continue`; undefined after the last page. */
  next: string | undefined;
}

const usualLimit = 100;

/** @param query as the contract has checked it: a number, and a text of ours or of somebody's making. */
export function pageQuery(query: Readonly<Record<string, unknown>>): PageQuery {
  const { limit = usualLimit, continue: cursor } = query;
  const after = cursor === undefined ? undefined : Buffer.from(String(cursor), 'base64url').toString();
  return { limit: Number(limit), after };
}

/**
 * @param all in the order of their keys. A key says where the next page begins even when its item is gone by then.
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
