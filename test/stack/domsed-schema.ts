/**
 * Owns the validation of domsed Mutations: by the schema in domsed-schema.json, and by parsing their selectors.
 *
 * A real API server drops fields that a CRD does not know, unless the client requests strict validation, as kubectl does. The
 * stand-in always refuses them, so that tests find a misspelt rule in a chart.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv, type ErrorObject, type ValidateFunction } from 'ajv';
import { kindNamed } from './kubernetes-kinds.ts';
import { selector } from './kubernetes-selectors.ts';
import { type Cause, StatusError } from './kubernetes-status.ts';

/** The schema's text is JSON Schema draft 7, so that kubeconform and others can read the file too. */
export const mutationSchemaFile = join(import.meta.dirname, 'domsed-schema.json');

let compiled: ValidateFunction | undefined;

/** The errors of a Mutation, field by field; empty when it is well-formed. */
export function mutationCauses(mutation: unknown): Cause[] {
  // Compiled at its first use, since most tests never store a Mutation.
  compiled ??= new Ajv({ strict: false, allErrors: true }).compile(
    JSON.parse(readFileSync(mutationSchemaFile, 'utf8')) as object,
  );
  const fits = compiled;
  if (!fits(mutation)) return (fits.errors ?? []).map(cause);
  const { rules } = mutation as { rules: { labelSelectors?: string[] }[] };
  return rules.flatMap(({ labelSelectors = [] }, rule) =>
    labelSelectors.flatMap((text, index) => selectorCauses(text, `rules[${rule}].labelSelectors[${index}]`)),
  );
}

function selectorCauses(text: string, field: string): Cause[] {
  try {
    selector(kindNamed('pods'), text, null);
    return [];
  } catch (error) {
    if (!(error instanceof StatusError)) throw error;
    return [{ field, message: `Invalid value: ${JSON.stringify(text)}: ${error.message}` }];
  }
}

function cause({ instancePath, keyword, params, message }: ErrorObject): Cause {
  const at = instancePath
    .slice(1)
    .split('/')
    .filter((part) => part !== '')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .reduce((path, part) => (/^\d+$/.test(part) ? `${path}[${part}]` : below(path, part)), '');
  if (keyword === 'additionalProperties') {
    return { field: below(at, params.additionalProperty as string), message: 'Invalid value: unknown field' };
  }
  if (keyword === 'required') return { field: below(at, params.missingProperty as string), message: 'Required value' };
  const allowed = keyword === 'enum' ? `: ${(params.allowedValues as unknown[]).join(', ')}` : '';
  return { field: at, message: `Invalid value: ${message}${allowed}` };
}

function below(path: string, part: string): string {
  return path === '' ? part : `${path}.${part}`;
}
