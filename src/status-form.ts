/** Owns what the ConfigMaps of all published statuses have in common: their names, and their JSON. Pure. */
import { createHash } from 'node:crypto';
import type { z } from 'zod';
import type { StatusForm } from './statuses.ts';

const dataKey = 'status.json';

/** Readable, and unique by a hash of the whole key. */
export function configMapName(prefix: string, readable: string, key: string): string {
  const plain = readable
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40);
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 12);
  return [prefix, plain, hash].filter((part) => part !== '').join('-');
}

export function jsonStatus<S>(schema: z.ZodType<S>): Pick<StatusForm<S>, 'data' | 'parse'> {
  return {
    data: (status) => ({ [dataKey]: JSON.stringify(status) }),
    parse: (data) => {
      try {
        return schema.safeParse(JSON.parse(data[dataKey] ?? '')).data;
      } catch {
        return undefined;
      }
    },
  };
}
