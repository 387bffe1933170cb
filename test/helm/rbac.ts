/** Owns what the chart's Roles allow, as the Kubernetes API server reads them: an AccessCheck for the stand-in. */
import type { AccessCheck, AccessRequest } from '../stack/kubernetes-access.ts';
import type { Rendered } from './render.ts';

export interface Rule {
  apiGroups?: string[];
  resources?: string[];
  resourceNames?: string[];
  verbs: string[];
}

interface Subject {
  kind: string;
  name: string;
  namespace?: string;
}

interface Binding extends Rendered {
  roleRef: { kind: string; name: string };
  subjects?: Subject[];
}

/** Service accounts' user names, as their tokens have them. */
export const userOf = (namespace: string, account: string) => `system:serviceaccount:${namespace}:${account}`;

/** Rules with the namespace and the subject that they hold for; no namespace is every namespace. */
interface Grant {
  namespace: string | undefined;
  subjects: readonly Subject[];
  rules: readonly Rule[];
}

/** Allows just what the Roles and bindings among these objects allow. */
export function accessFrom(objects: readonly Rendered[]): AccessCheck {
  const grants = objects
    .filter(({ kind }) => kind === 'RoleBinding' || kind === 'ClusterRoleBinding')
    .map((object) => grantOf(object as Binding, objects));
  return (request) =>
    grants.some(
      ({ namespace, subjects, rules }) =>
        (namespace === undefined || namespace === request.namespace) &&
        subjects.some((subject) => isUser(subject, request.user)) &&
        rules.some((rule) => allows(rule, request)),
    );
}

function grantOf(binding: Binding, objects: readonly Rendered[]): Grant {
  const { kind, name } = binding.roleRef;
  // A binding to a role that does not exist grants nothing.
  const role = objects.find(
    (object) =>
      object.kind === kind &&
      object.metadata.name === name &&
      (kind === 'ClusterRole' || object.metadata.namespace === binding.metadata.namespace),
  );
  return {
    namespace: binding.kind === 'ClusterRoleBinding' ? undefined : binding.metadata.namespace,
    subjects: binding.subjects ?? [],
    rules: (role?.rules as Rule[] | undefined) ?? [],
  };
}

function isUser({ kind, name, namespace }: Subject, user: string): boolean {
  if (kind === 'User') return name === user;
  if (kind === 'ServiceAccount') return userOf(namespace ?? '', name) === user;
  if (name === 'system:authenticated') return user !== 'system:anonymous';
  return name === 'system:serviceaccounts' && user.startsWith('system:serviceaccount:');
}

/** A rule with names does not allow a request without a name: a creation, or a list without metadata.name. */
function allows(rule: Rule, { verb, group, resource, name }: AccessRequest): boolean {
  const has = (values: readonly string[] | undefined, value: string) => {
    return values?.includes(value) || values?.includes('*') || false;
  };
  const [, subresource] = resource.split('/');
  return (
    has(rule.verbs, verb) &&
    has(rule.apiGroups, group) &&
    (has(rule.resources, resource) ||
      (subresource !== undefined && rule.resources?.includes(`*/${subresource}`) === true)) &&
    (!rule.resourceNames?.length || (name !== undefined && rule.resourceNames.includes(name)))
  );
}
