/** Owns what openapi.yaml says of each call as a whole: the methods of a path, who may call, and how large a body may be. */
import { readFileSync } from 'node:fs';
import { load } from 'js-yaml';
import { projectFile } from '../lib/project-file.ts';

export interface Call {
  /** Whether it takes no credential. */
  readonly open: boolean;
  readonly adminOnly: boolean;
  /** 0 where it takes no body. */
  readonly maxBodyBytes: number;
  /** How old what Domino said of the caller may be, where that is less than usual. */
  readonly callerMaxAgeMs?: number;
}

export interface Contract {
  /** The parsed openapi.yaml. */
  readonly document: object;
  /** Of the contract, and so of the service. */
  readonly version: string;
  /** The calls of a path by method, in capitals; undefined where the contract does not have the path. */
  at(path: string): ReadonlyMap<string, Call> | undefined;
  paths(): Iterable<string>;
}

interface Operation {
  readonly security?: readonly Readonly<Record<string, readonly string[]>>[];
  readonly requestBody?: object;
  readonly 'x-max-body-bytes'?: number;
  readonly 'x-caller-max-age-seconds'?: number;
}

interface Document {
  readonly info: { readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** Room for a run id, a name or one ARN, however it is laid out. A call that needs more has `x-max-body-bytes`. */
const usualBodyBytes = 2048;

export function readContract(): Contract {
  const document = load(readFileSync(projectFile('openapi.yaml'), 'utf8')) as Document;
  const calls = new Map(
    Object.entries(document.paths).map(([path, operations]) => [
      path,
      new Map(Object.entries(operations).map(([method, operation]) => [method.toUpperCase(), callOf(operation)])),
    ]),
  );
  return { document, version: document.info.version, at: (path) => calls.get(path), paths: () => calls.keys() };
}

function callOf(operation: Operation): Call {
  const { security, requestBody, 'x-max-body-bytes': maxBytes = usualBodyBytes } = operation;
  const { 'x-caller-max-age-seconds': maxAge } = operation;
  return {
    open: security?.length === 0,
    adminOnly: security?.some((scheme) => Object.values(scheme).flat().includes('admin')) ?? false,
    maxBodyBytes: requestBody ? maxBytes : 0,
    ...(maxAge === undefined ? {} : { callerMaxAgeMs: maxAge * 1000 }),
  };
}
