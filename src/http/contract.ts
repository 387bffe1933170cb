/** Owns the rules of openapi.yaml for whole calls: a path's methods, who may call, and how large a body may be. */
import { readFileSync } from 'node:fs';
import { load } from 'js-yaml';
import { projectFile } from '../lib/project-file.ts';

export interface Call {
  /** Whether the call needs no credential. */
  readonly open: boolean;
  readonly adminOnly: boolean;
  /** 0 where the call takes no body. */
  readonly maxBodyBytes: number;
  /** How old Domino's cached answer about the caller may be, where less than usual. */
  readonly callerMaxAgeMs?: number;
}

export interface Contract {
  /** The parsed openapi.yaml. */
  readonly document: object;
  /** The contract's version, which is also the service's. */
  readonly version: string;
  /** Path -> its calls by method, in capitals. */
  readonly calls: ReadonlyMap<string, ReadonlyMap<string, Call>>;
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

/** Enough for a run id, a name or one ARN, with any white space. A call that needs more has `x-max-body-bytes`. */
const usualBodyBytes = 2048;

export function readContract(): Contract {
  const document = load(readFileSync(projectFile('openapi.yaml'), 'utf8')) as Document;
  const calls = new Map(
    Object.entries(document.paths).map(([path, operations]) => [
      path,
      new Map(Object.entries(operations).map(([method, operation]) => [method.toUpperCase(), callOf(operation)])),
    ]),
  );
  return { document, version: document.info.version, calls };
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
