/**
 * Owns a Kubernetes API server just good enough for helm itself: discovery, and objects of any kind that the chart
 * renders, stored as they are sent. The stack's own stand-in is stricter, and knows only what the service uses.
 */

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { secretFrom } from './protobuf.ts';
import { toolPath } from './tools.ts';

interface Stored {
  metadata: { name: string; labels?: Record<string, string>; annotations?: Record<string, string> };
  data?: Record<string, string>;
  [field: string]: unknown;
}

/** Group and version -> kinds; the plural is the kind in lower case with an s, but for two. */
const allKinds: Record<string, string[]> = {
  v1: ['ConfigMap', 'Namespace', 'Secret', 'Service', 'ServiceAccount'],
  'apps/v1': ['Deployment'],
  'policy/v1': ['PodDisruptionBudget'],
  'networking.k8s.io/v1': ['NetworkPolicy'],
  'rbac.authorization.k8s.io/v1': ['Role', 'RoleBinding'],
  'cert-manager.io/v1': ['Certificate', 'Issuer'],
  'apps.dominodatalab.com/v1alpha1': ['Mutation'],
};
const pluralOf = (kind: string) => `${kind.toLowerCase().replace(/y$/, 'ie')}s`;

const inField = ['-n', 'domino-field'];

export interface Cluster {
  /** By the path of the API: `/api/v1/namespaces/domino-field/configmaps/irsa-ca`. */
  readonly objects: Map<string, Stored>;
  /** Runs helm against it, in domino-field unless `-n` says otherwise. @throws Error with what helm says. */
  helm(...args: string[]): Promise<string>;
  close(): Promise<void>;
}

/** @param without groups with versions that this cluster does not have. */
export async function startCluster(without: readonly string[] = []): Promise<Cluster> {
  const kinds = Object.fromEntries(Object.entries(allKinds).filter(([version]) => !without.includes(version)));
  const objects = new Map<string, Stored>();
  const server = createServer((request, response) => void answer({ objects, kinds }, request, response));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const home = mkdtempSync(join(tmpdir(), 'irsa-helm-'));
  return {
    objects,
    helm: async (...args) => {
      const flags = ['--kube-apiserver', url, '--kube-token', 'any', ...(args.includes('-n') ? [] : inField)];
      const env = { PATH: process.env.PATH, HOME: home, KUBECONFIG: join(home, 'none') };
      const { stdout } = await promisify(execFile)(toolPath('helm') ?? '', [...args, ...flags], { env });
      return stdout;
    },
    close: async () => {
      rmSync(home, { recursive: true, force: true });
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(
  { objects, kinds }: { objects: Map<string, Stored>; kinds: typeof allKinds },
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://any');
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const isProtobuf = request.headers['content-type']?.includes('protobuf') === true;
  const sent = (): Stored => (isProtobuf ? secretFrom(body) : (JSON.parse(body.toString()) as Stored));
  const send = (status: number, body: object) => {
    response.writeHead(status, { 'Content-Type': 'application/json' });
    response.end(JSON.stringify(body));
  };
  const refuse = (code: number, reason: string) =>
    send(code, {
      kind: 'Status',
      apiVersion: 'v1',
      status: 'Failure',
      reason,
      code,
      message: `${reason}: ${pathname}`,
    });

  const known = discovery(kinds, pathname);
  if (known) return send(200, known);
  const stored = objects.get(pathname);
  if (request.method === 'POST') {
    const object = sent();
    const path = `${pathname}/${object.metadata.name}`;
    if (objects.has(path)) return refuse(409, 'AlreadyExists');
    objects.set(path, object);
    return send(201, object);
  }
  const listed = Object.values(kinds)
    .flat()
    .find((kind) => pathname.endsWith(`/${pluralOf(kind)}`));
  if (request.method === 'GET' && listed) {
    const labels = (searchParams.get('labelSelector') ?? '').split(',').filter((term) => term !== '');
    const items = [...objects].flatMap(([path, object]) =>
      path.startsWith(`${pathname}/`) && labels.every((term) => fits(object, term)) ? [object] : [],
    );
    return send(200, { kind: `${listed}List`, apiVersion: 'v1', metadata: {}, items });
  }
  if (!stored) return refuse(404, 'NotFound');
  if (request.method === 'DELETE') objects.delete(pathname);
  if (request.method === 'PUT') objects.set(pathname, sent());
  // Strategic merging differs in lists alone, which no test here checks.
  if (request.method === 'PATCH') objects.set(pathname, merge(stored, sent()) as Stored);
  send(200, objects.get(pathname) ?? stored);
}

function fits({ metadata }: Stored, term: string): boolean {
  const [, key = '', value = ''] = /^([^=!]+)==?(.*)$/.exec(term) ?? [];
  return metadata.labels?.[key] === value;
}

function discovery(kinds: typeof allKinds, path: string): object | undefined {
  const group = (version: string) => ({ groupVersion: version, version: version.slice(version.indexOf('/') + 1) });
  if (path === '/version') return { major: '1', minor: '34', gitVersion: 'v1.34.0' };
  if (path === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  if (path === '/apis') {
    const groups = Object.keys(kinds).filter((version) => version.includes('/'));
    return {
      kind: 'APIGroupList',
      apiVersion: 'v1',
      groups: groups.map((version) => ({
        name: version.split('/')[0],
        versions: [group(version)],
        preferredVersion: group(version),
      })),
    };
  }
  const version = path.replace(/^\/apis?\//, '');
  const resources = kinds[version]?.map((kind) => ({
    name: pluralOf(kind),
    singularName: kind.toLowerCase(),
    namespaced: kind !== 'Namespace',
    kind,
    verbs: ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch'],
  }));
  return resources && { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: version, resources };
}

/** RFC 7386: null removes a field, maps are merged, all else is replaced. */
function merge(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const isMap = typeof target === 'object' && target !== null && !Array.isArray(target);
  const merged: Record<string, unknown> = isMap ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key];
    else if (!key.startsWith('$')) merged[key] = merge(merged[key], value);
  }
  return merged;
}
