/** Owns the four patch formats of the Kubernetes API, as pure functions over JSON. */
import { isDeepStrictEqual } from 'node:util';
import { badRequest, StatusError } from './kubernetes-status.ts';

type Json = null | boolean | number | string | Json[] | JsonObject;
type JsonObject = { [key: string]: Json };

export const applyPatchType = 'application/apply-patch+yaml';

/** Returns the patched object; the argument is not changed. `custom` kinds have no strategic merge. */
export function patched<T extends object>(current: T, patch: unknown, contentType: string, custom: boolean): T {
  const before = current as unknown as JsonObject;
  switch (contentType) {
    case 'application/json-patch+json':
      return jsonPatch(before, patch as Json) as unknown as T;
    case applyPatchType:
    case 'application/merge-patch+json':
      return mergePatch(before, asObject(patch)) as unknown as T;
    case 'application/strategic-merge-patch+json':
      if (!custom) return strategicMerge(before, asObject(patch)) as unknown as T;
  }
  throw new StatusError(
    415,
    `the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, ${applyPatchType}`,
  );
}

function asObject(patch: unknown): JsonObject {
  if (!isObject(patch as Json)) throw badRequest('the patch must be a JSON object');
  return patch as JsonObject;
}

function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** RFC 7386. */
function mergePatch(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const result: JsonObject = isObject(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

/** The merge keys of these kinds' lists; kubectl apply sends only the elements that change. */
const mergeKeys: Record<string, string> = {
  containers: 'name',
  initContainers: 'name',
  env: 'name',
  volumes: 'name',
  volumeMounts: 'mountPath',
  imagePullSecrets: 'name',
  secrets: 'name',
  conditions: 'type',
  ownerReferences: 'uid',
};

function strategicMerge(target: Json | undefined, patch: Json): Json {
  if (!isObject(patch)) return patch;
  const { $patch: directive, ...changes } = patch;
  const result: JsonObject = isObject(target) && directive !== 'replace' ? { ...target } : {};
  for (const [key, value] of Object.entries(changes)) {
    if (key.startsWith('$deleteFromPrimitiveList/')) {
      const field = key.slice(key.indexOf('/') + 1);
      const list = result[field];
      if (Array.isArray(list) && Array.isArray(value)) result[field] = list.filter((item) => !value.includes(item));
    } else if (key.startsWith('$')) {
      // Hints about order and kept keys do not change content that the stand-in keeps.
    } else if (value === null) {
      delete result[key];
    } else if (key === 'finalizers' && Array.isArray(value) && Array.isArray(result[key])) {
      result[key] = [...new Set([...result[key], ...value])];
    } else if (mergeKeys[key] && Array.isArray(value) && Array.isArray(result[key])) {
      result[key] = mergeList(result[key], value, mergeKeys[key]);
    } else {
      result[key] = strategicMerge(result[key], value);
    }
  }
  return result;
}

function mergeList(current: Json[], patch: Json[], mergeKey: string): Json[] {
  const result = [...current];
  for (const item of patch) {
    const index = result.findIndex((old) => isObject(old) && isObject(item) && old[mergeKey] === item[mergeKey]);
    if (isObject(item) && item.$patch === 'delete') {
      if (index >= 0) result.splice(index, 1);
    } else if (index >= 0) {
      result[index] = strategicMerge(result[index], item);
    } else {
      result.push(strategicMerge(undefined, item));
    }
  }
  return result;
}

/** RFC 6902. */
function jsonPatch(target: JsonObject, patch: Json): Json {
  if (!Array.isArray(patch)) throw badRequest('a JSON patch must be a list of operations');
  let document: Json = structuredClone(target);
  for (const step of patch) {
    if (!isObject(step)) throw badRequest('a JSON patch operation must be an object');
    document = operate(document, step);
  }
  return document;
}

function operate(document: Json, step: JsonObject): Json {
  const path = pointer(step.path);
  switch (step.op) {
    case 'add':
      return place(document, path, step.value ?? null, false);
    case 'replace':
      valueAt(document, path);
      return place(document, path, step.value ?? null, true);
    case 'remove':
      take(document, path);
      return document;
    case 'copy':
      return place(document, path, structuredClone(valueAt(document, pointer(step.from))), false);
    case 'move': {
      const value = valueAt(document, pointer(step.from));
      take(document, pointer(step.from));
      return place(document, path, value, false);
    }
    case 'test':
      if (isDeepStrictEqual(valueAt(document, path), step.value ?? null)) return document;
      throw unprocessable(`testing path ${String(step.path)} failed`);
    default:
      throw unprocessable(`unexpected operation: ${String(step.op)}`);
  }
}

function pointer(path: Json | undefined): string[] {
  if (typeof path !== 'string') throw unprocessable('an operation has no path');
  if (path === '') return [];
  return path
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
}

function valueAt(document: Json, path: readonly string[]): Json {
  let value: Json | undefined = document;
  for (const part of path) {
    if (Array.isArray(value)) value = value[Number(part)];
    else if (isObject(value) && Object.hasOwn(value, part)) value = value[part];
    else value = undefined;
    if (value === undefined) throw unprocessable(`path not found: /${path.join('/')}`);
  }
  return value;
}

function place(document: Json, path: readonly string[], value: Json, replace: boolean): Json {
  const last = path.at(-1);
  if (last === undefined) return value;
  const parent = valueAt(document, path.slice(0, -1));
  if (Array.isArray(parent)) {
    const index = last === '-' ? parent.length : Number(last);
    if (!Number.isInteger(index) || index < 0 || index > parent.length) throw unprocessable(`bad index: ${last}`);
    parent.splice(index, replace ? 1 : 0, value);
  } else if (isObject(parent)) {
    parent[last] = value;
  } else {
    throw unprocessable(`path not found: /${path.join('/')}`);
  }
  return document;
}

function take(document: Json, path: readonly string[]): void {
  valueAt(document, path);
  const parent = valueAt(document, path.slice(0, -1));
  const last = path.at(-1) ?? '';
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else if (isObject(parent)) delete parent[last];
}

function unprocessable(message: string): StatusError {
  return new StatusError(422, `the server rejected our request due to an error in our request: ${message}`);
}
