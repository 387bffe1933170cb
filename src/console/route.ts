/** Owns the console's address: the open page and its parameters, all after the `#`. */
import { signal } from '@preact/signals';

export interface Route {
  readonly page: string;
  readonly query: URLSearchParams;
}

function read(): Route {
  const [path = '', query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  return { page: path, query: new URLSearchParams(query) };
}

export const route = signal<Route>(read());

export function reread(): void {
  route.value = read();
}

export function linkTo(page: string, query: Readonly<Record<string, string | undefined>> = {}): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => Boolean(pair[1]));
  const search = new URLSearchParams(given).toString();
  return `#/${page}${search === '' ? '' : `?${search}`}`;
}

export function goTo(page: string, query: Readonly<Record<string, string | undefined>> = {}): void {
  location.hash = linkTo(page, query);
}
