/** Owns the parsing of JSON that a person or another release may have written. */
import type { z } from 'zod';

/** @returns undefined where the text is not JSON, or not of this form. */
export function parseJson<T>(schema: z.ZodType<T>, text: string): T | undefined {
  try {
    return schema.safeParse(JSON.parse(text)).data;
  } catch {
    return undefined;
  }
}
