/** Owns the JSON of a policy document: reading it, writing it as IAM accepts it, and access to its parts. Pure. */

export type Json = string | number | boolean | null | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

/** @returns the document, or a sentence that says why the text is none. */
export function parsePolicy(text: string): JsonObject | string {
  let policy: Json;
  try {
    policy = JSON.parse(text) as Json;
  } catch {
    return 'the trust policy is not JSON';
  }
  if (!isObject(policy)) return 'the trust policy is not a JSON object';
  const { Statement: statement } = policy;
  const statements = Array.isArray(statement) ? statement : [statement];
  if (!statements.every(isObject)) return 'the trust policy has no statement, or one that is not a JSON object';
  return policy;
}

/**
 * The text of a document in ASCII: IAM accepts characters above U+00FF only as escapes.
 * https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAssumeRolePolicy.html
 */
export function writePolicy(policy: JsonObject): string {
  return JSON.stringify(policy).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

export function statementsOf(policy: JsonObject): JsonObject[] {
  const statement = policy.Statement as JsonObject | JsonObject[];
  return Array.isArray(statement) ? statement : [statement];
}

/** The value as a list: IAM accepts a single value for a list of one nearly everywhere. */
export function listOf(value: Json | undefined): Json[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** @returns undefined where anything but a string is in it. */
export function stringsOf(value: Json | undefined): string[] | undefined {
  if (value === undefined) return undefined;
  const list = listOf(value);
  return list.every((item) => typeof item === 'string') ? list : undefined;
}

export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
