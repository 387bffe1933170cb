/** Owns authentication and authorization in the Kubernetes stand-in: maps bearer tokens to users, and applies RBAC. */
import type { ApiRequest } from './kubernetes-api.ts';
import { qualified, StatusError } from './kubernetes-status.ts';

export interface AccessRequest {
  readonly user: string;
  readonly verb: string;
  readonly group: string;
  /** With the subresource, as RBAC writes it: `pods/status`. */
  readonly resource: string;
  /** Empty for all namespaces and for cluster-scoped resources. */
  readonly namespace: string;
  /** Also for a list or watch whose field selector pins metadata.name, as in the real one. */
  readonly name?: string;
}

export type AccessCheck = (request: AccessRequest) => boolean;
export type Tokens = Readonly<Record<string, string>> | ReadonlyMap<string, string>;

/** A check that throws 401 for an unknown token, and 403 where `rbac` denies the request. */
export function createAccess(tokens: Tokens | undefined, rbac: AccessCheck | undefined) {
  const users = tokens instanceof Map ? (tokens as ReadonlyMap<string, string>) : new Map(Object.entries(tokens ?? {}));
  return ({ verb, kind, namespace, name, subresource }: ApiRequest, authorization: string | undefined): void => {
    const token = /^Bearer (.+)$/i.exec(authorization ?? '')?.[1];
    // Without a map, the token is the user's name, so that a test of RBAC alone needs no map.
    const user = token === undefined ? 'system:anonymous' : (users.get(token) ?? (tokens ? undefined : token));
    if (user === undefined) throw new StatusError(401, 'Unauthorized');
    const resource = subresource ? `${kind.plural}/${subresource}` : kind.plural;
    const request = { user, verb, group: kind.group, resource, namespace, ...(name === undefined ? {} : { name }) };
    if (!rbac || rbac(request)) return;
    const what = name === undefined ? qualified(kind) : `${qualified(kind)} "${name}"`;
    const where = namespace === '' ? 'at the cluster scope' : `in the namespace "${namespace}"`;
    throw new StatusError(
      403,
      `${what} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${kind.group}" ${where}`,
      'Forbidden',
      { ...(name === undefined ? {} : { name }), kind: kind.plural },
    );
  };
}
