/** Owns the check of answers against openapi.yaml: status, content type, headers and schema. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';
import type { Response } from 'supertest';
import { parse } from 'yaml';

type Json = Record<string, unknown>;

interface MediaType {
  schema?: Json;
}

interface ResponseObject {
  $ref?: string;
  content?: Record<string, MediaType>;
  headers?: Record<string, unknown>;
}

interface Operation {
  operationId: string;
  responses: Record<string, ResponseObject>;
}

export const contract = parse(readFileSync(new URL('../../openapi.yaml', import.meta.url), 'utf8')) as {
  paths: Record<string, Record<string, Operation>>;
  components: Json;
};

const ajv = new Ajv2020({ strict: false, allErrors: true });
// A CommonJS module has this default export, which its types do not declare.
(addFormats as unknown as (ajv: Ajv2020) => void)(ajv);
ajv.addSchema({ $id: 'contract', ...contract } as Json);
const validators = new Map<string, ValidateFunction>();

/** @throws AssertionError where the contract does not allow this answer to the call. */
export function assertConforms(method: string, path: string, response: Response): void {
  const bare = path.split('?')[0] ?? path;
  const operation = contract.paths[bare]?.[method.toLowerCase()];
  const call = `${method} ${bare}`;
  if (!operation) {
    // The service also answers calls outside the contract with a problem.
    assertSchema('#/components/schemas/Problem', response.body, call);
    return;
  }
  const found = operation.responses[String(response.status)];
  assert.ok(found, `${call} answered ${response.status}, which the contract does not have: ${response.text}`);
  const pointer =
    found.$ref ??
    `#/paths/${bare.replaceAll('~', '~0').replaceAll('/', '~1')}/${method.toLowerCase()}/responses/${response.status}`;
  const object = found.$ref ? (lookUp(found.$ref) as ResponseObject) : found;
  for (const header of Object.keys(object.headers ?? {})) {
    assert.ok(
      response.headers[header.toLowerCase()] !== undefined,
      `${call} ${response.status} lacks header ${header}`,
    );
  }
  if (!object.content) {
    assert.equal(response.text, '', `${call} ${response.status} has a body`);
    return;
  }
  const type = (response.headers['content-type'] ?? '').split(';')[0] as string;
  const media = object.content?.[type];
  assert.ok(media, `${call} ${response.status} came as ${type}, not as one of ${Object.keys(object.content ?? {})}`);
  if (!media.schema) return;
  const value = type.includes('json') ? JSON.parse(response.text) : response.text;
  assertSchema(`${pointer}/content/${type.replaceAll('/', '~1')}/schema`, value, call);
}

function assertSchema(pointer: string, value: unknown, call: string): void {
  let validate = validators.get(pointer);
  if (!validate) {
    const encoded = pointer.replaceAll('{', '%7B').replaceAll('}', '%7D');
    validate = ajv.compile({ $ref: `contract${encoded}` });
    validators.set(pointer, validate);
  }
  assert.ok(validate(value), `${call}: ${ajv.errorsText(validate.errors)} in ${JSON.stringify(value)}`);
}

function lookUp(ref: string): unknown {
  let at: unknown = contract;
  for (const key of ref.slice(2).split('/')) at = (at as Json)[key.replaceAll('~1', '/').replaceAll('~0', '~')];
  return at;
}
