/** Owns the common form of published statuses: a ConfigMap with JSON, and the fields that all kinds share. Pure. */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { parseJson } from '../lib/json.ts';
import type { DriftMemory } from './drift.ts';

/** How one kind of status is stored in a ConfigMap. */
export interface StatusForm<S> {
  /** The label of the kind's ConfigMaps. */
  readonly label: string;
  /** The subject of a status: a proxy role's ARN, or a service account. */
  keyOf(status: S): string;
  /** The ConfigMap's name. */
  nameOf(key: string): string;
  data(status: S): Record<string, string>;
  /** @returns undefined where the ConfigMap holds no status of this form. */
  parse(data: Record<string, string>): S | undefined;
  /** The part of a status whose change is worth a write. */
  content(status: S): unknown;
}

/** A reason or an error, with the message of AWS or Kubernetes in `said`, for administrators. */
export const reasonSchema = z.object({
  code: z.string(),
  detail: z.string(),
  said: z.string().optional(),
  at: z.string(),
});

export const driftFields = {
  /** What the last external change removed and added, and how many there were in all. */
  drift: z
    .object({ at: z.string(), count: z.number(), missing: z.array(z.string()), extra: z.array(z.string()) })
    .optional(),
  /** Until when the repair of repeated external changes waits. */
  contested_until: z.string().optional(),
};

export type Reason = z.infer<typeof reasonSchema>;

/** The published form of a reason. */
export function reasonStatus({ code, detail, said, at }: Reason): Reason {
  return { code, detail, at, ...(said === undefined ? {} : { said }) };
}

/** The published form of external changes. */
export function driftStatus({ drift, contested }: DriftMemory) {
  return { ...(drift ? { drift } : {}), ...(contested ? { contested_until: contested.at } : {}) };
}

const dataKey = 'status.json';

/** @param readable picks the part of the key that the ConfigMap's name shows. */
export function statusForm<S>(
  kind: Pick<StatusForm<S>, 'label' | 'keyOf' | 'content'> & { schema: z.ZodType<S>; prefix: string },
  readable: (key: string) => string = (key) => key,
): StatusForm<S> {
  const { label, keyOf, content, schema, prefix } = kind;
  return {
    label,
    keyOf,
    content,
    nameOf: (key) => configMapName(prefix, readable(key), key),
    data: (status) => ({ [dataKey]: JSON.stringify(status) }),
    parse: (data) => parseJson(schema, data[dataKey] ?? ''),
  };
}

/** A readable name, made unique by a hash of the whole key. */
function configMapName(prefix: string, readable: string, key: string): string {
  const plain = readable
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-|-$/g, '')
    .slice(0, 40);
  const hash = createHash('sha256').update(key).digest('hex').slice(0, 12);
  return [prefix, plain, hash].filter((part) => part !== '').join('-');
}
