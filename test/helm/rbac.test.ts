/** Proves that the chart's Roles are what src/kubernetes.ts says it calls, and how accessFrom reads Roles. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { needsHelm } from './objects.ts';
import { accessFrom, type Rule, userOf } from './rbac.ts';
import { type Rendered, renderChart } from './render.ts';
import { root } from './tools.ts';

const code = readFileSync(join(root, 'src', 'kubernetes.ts'), 'utf8');
const podIdentity = { enabled: true, clusterName: 'acme' };
const namespaces: Record<string, string> = {
  field: 'domino-field',
  compute: 'domino-compute',
  platform: 'domino-platform',
};

/** `<namespace> <resource> <verb>` of each right that the interface's comments name: `pods: list, watch (compute)`. */
function needed(): string[] {
  const comments = code.matchAll(/\/\*\* ([\w.]+): ([a-z, ]+) \((field|compute|platform)\)/g);
  return [...comments].flatMap(([, resource = '', verbs = '', place = '']) =>
    verbs.split(',').map((verb) => `${namespaces[place]} ${resource.split('.')[0]} ${verb.trim()}`),
  );
}

const rulesOf = (objects: readonly Rendered[]) =>
  objects
    .filter(({ kind, metadata }) => kind === 'Role' && metadata.name === 'irsa-svc')
    .flatMap((role) => (role.rules as Rule[]).map((rule) => ({ ...rule, namespace: role.metadata.namespace })));

describe('the permissions of the chart', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('are those that src/kubernetes.ts names, and no others', () => {
    const given = rulesOf(renderChart({ podIdentity })).flatMap(({ namespace, resources = [], verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${namespace} ${resource} ${verb}`)),
    );
    assert.ok(given.length > 20);
    assert.deepEqual([...new Set(given)].sort(), [...new Set(needed())].sort());
    assert.equal(new Set(given).size, given.length, 'each right is given once');
  });

  it('name beside each verb a function that there is', () => {
    const template = readFileSync(join(root, 'deploy/helm/irsa/templates/rbac.yaml'), 'utf8');
    const verbs = [...template.matchAll(/^ {6}- (\w+)( # ([\w, ]+?)[:,]?( .*)?)?$/gm)];
    assert.ok(verbs.length > 20);
    for (const [line] of verbs) {
      const [, named = ''] = line.split(' # ');
      const functions = named.split(/[:,]/).filter((word) => /^ ?[a-z]+[A-Z]\w*$/.test(word));
      assert.ok(functions.length > 0, line);
      for (const name of functions) assert.match(code, new RegExp(`^  ${name.trim()}\\(`, 'm'), line);
    }
  });

  it('reach the platform namespace with Pod Identity alone, and one Mutation there', () => {
    const platform = (objects: readonly Rendered[]) =>
      rulesOf(objects).filter(({ namespace }) => namespace === 'domino-platform');
    assert.deepEqual(platform(renderChart()), []);
    const access = accessFrom(renderChart({ podIdentity }));
    const may = (verb: string, name?: string) =>
      access({
        user: userOf('domino-field', 'irsa-svc'),
        verb,
        group: 'apps.dominodatalab.com',
        resource: 'mutations',
        namespace: 'domino-platform',
        ...(name === undefined ? {} : { name }),
      });
    for (const verb of ['get', 'list', 'watch', 'patch', 'delete']) {
      assert.deepEqual([may(verb, 'irsa-pod-identity'), may(verb, 'irsa'), may(verb)], [true, false, false], verb);
    }
    assert.equal(may('create'), true);
  });

  it('are read as an API server reads them', () => {
    const access = accessFrom(renderChart());
    const user = userOf('domino-field', 'irsa-svc');
    const request = { user, verb: 'patch', group: '', resource: 'configmaps', namespace: 'domino-field' };
    assert.equal(access(request), true);
    assert.equal(access({ ...request, user: 'system:anonymous' }), false);
    assert.equal(access({ ...request, user: userOf('domino-compute', 'irsa-svc') }), false);
    assert.equal(access({ ...request, namespace: 'domino-compute' }), false);
    assert.equal(access({ ...request, namespace: '' }), false);
    assert.equal(access({ ...request, verb: 'update' }), false);
    assert.equal(access({ ...request, group: 'apps' }), false);
    assert.equal(access({ ...request, resource: 'configmaps/status' }), false);
    assert.equal(access({ ...request, resource: 'secrets' }), false);
    const lease = { ...request, group: 'coordination.k8s.io', resource: 'leases', verb: 'update' };
    assert.equal(access({ ...lease, name: 'irsa-writer' }), true);
    assert.equal(access({ ...lease, name: 'other' }), false);
    assert.equal(access(lease), false);
  });

  it('let the CA publisher touch one ConfigMap', () => {
    const access = accessFrom(renderChart());
    const user = userOf('domino-field', 'irsa-svc-ca-publisher');
    const request = { user, verb: 'patch', group: '', resource: 'configmaps', namespace: 'domino-compute' };
    assert.equal(access({ ...request, name: 'irsa-ca' }), true);
    assert.equal(access({ ...request, name: 'other' }), false);
    assert.equal(access({ ...request, verb: 'delete', name: 'irsa-ca' }), false);
    assert.equal(access({ ...request, namespace: 'domino-field', name: 'irsa-ca' }), false);
  });

  it('grant nothing by a binding to a Role that is not there, and all of it by wildcards', () => {
    const metadata = { name: 'a', namespace: 'ns' };
    const binding = {
      apiVersion: '',
      kind: 'RoleBinding',
      metadata,
      roleRef: { kind: 'ClusterRole', name: 'r' },
      subjects: [{ kind: 'Group', name: 'system:serviceaccounts' }],
    };
    const role = { apiVersion: '', kind: 'ClusterRole', metadata: { name: 'r' } };
    const rules = [{ apiGroups: ['*'], resources: ['*/status', 'pods'], verbs: ['*'] }];
    const request = { user: userOf('x', 'y'), verb: 'get', group: 'any', resource: 'jobs/status', namespace: 'ns' };
    assert.equal(accessFrom([binding])(request), false);
    assert.equal(accessFrom([binding, { ...role, rules }])(request), true);
    assert.equal(accessFrom([binding, { ...role, rules }])({ ...request, resource: 'jobs' }), false);
    assert.equal(accessFrom([binding, { ...role, rules }])({ ...request, namespace: 'other' }), false);
    const everywhere = { ...binding, kind: 'ClusterRoleBinding', metadata: { name: 'a' } };
    assert.equal(accessFrom([everywhere, { ...role, rules }])({ ...request, namespace: 'other' }), true);
  });
});
