/** Owns the parsing of JSON that a person, another program or another release may have written. */
import type { z } from 'zod';

/** @returns undefined where the text is not JSON, or not of this form. */
export function parseJson<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}

/** @returns the fields of a JSON object; none where the text is not a JSON object. */
export function jsonFields(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
