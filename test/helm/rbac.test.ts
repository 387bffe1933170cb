/** Proves that the chart's Roles are what src/kubernetes/client.ts says it calls, and how accessFrom reads Roles. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { podIdentityStatusForm } from '../../src/pod-identity/status.ts';
import { trustStatusForm } from '../../src/proxy-roles/status.ts';
import { needsHelm } from './objects.ts';
import { accessFrom, type Rule, userOf } from './rbac.ts';
import { objectNamed, type Rendered, renderChart } from './render.ts';
import { root } from './tools.ts';

const code = ['client.ts', 'tokens.ts']
  .map((name) => readFileSync(join(root, 'src', 'kubernetes', name), 'utf8'))
  .join('');
const podIdentity = { enabled: true, clusterName: 'acme' };
const namespaces: Record<string, string> = {
  field: 'domino-field',
  compute: 'domino-compute',
  platform: 'domino-platform',
};

/** `<namespace> <resource> <verb>` of each right that the interface's comments name: `pods: list, watch (compute)`. */
function needed(): string[] {
  const comments = code.matchAll(/\/\*\* ([\w./]+): ([a-z, ]+) \((field|compute|platform)\)/g);
  return [...comments].flatMap(([, resource = '', verbs = '', place = '']) =>
    verbs.split(',').map((verb) => `${namespaces[place]} ${resource.split('.')[0]} ${verb.trim()}`),
  );
}

const rulesOf = (objects: readonly Rendered[]) =>
  objects
    .filter(
      ({ kind, metadata }) =>
        kind === 'Role' && ['irsa-svc', 'irsa-svc-dry-run-pods', 'irsa-svc-role-tokens'].includes(metadata.name),
    )
    .flatMap((role) => (role.rules as Rule[]).map((rule) => ({ ...rule, namespace: role.metadata.namespace })));

describe('the permissions of the chart', function () {
  this.timeout(60_000);
  before(needsHelm);

  it('are those that src/kubernetes/client.ts names, and no others', () => {
    const given = rulesOf(
      renderChart({ podIdentity: { ...podIdentity, dryRunPods: true }, roleTokens: { enabled: true } }),
    ).flatMap(({ namespace, resources = [], verbs }) =>
      resources.flatMap((resource) => verbs.map((verb) => `${namespace} ${resource} ${verb}`)),
    );
    assert.ok(given.length > 20);
    assert.deepEqual([...new Set(given)].sort(), [...new Set(needed())].sort());
    assert.equal(new Set(given).size, given.length, 'each right is given once');
  });

  it('name an existing function beside each verb', () => {
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

  it('allow the creation of pods only with dryRunPods, and only as dry runs', () => {
    const of = (value: object) => renderChart({ podIdentity: value });
    const policies = (objects: readonly Rendered[]) =>
      objects.filter(({ kind }) => kind.startsWith('ValidatingAdmissionPolicy'));
    const creates = (objects: readonly Rendered[]) =>
      rulesOf(objects).some(({ resources = [], verbs }) => resources.includes('pods') && verbs.includes('create'));
    for (const value of [podIdentity, { dryRunPods: true }]) {
      assert.deepEqual([creates(of(value)), policies(of(value)).length], [false, 0]);
    }
    const made = of({ ...podIdentity, dryRunPods: true });
    assert.ok(creates(made));
    const [policy, binding] = policies(made);
    const { failurePolicy, matchConditions, validations } = (policy?.spec ?? {}) as Record<
      string,
      { expression: string }[]
    >;
    assert.equal(failurePolicy, 'Fail');
    const user = userOf('domino-field', 'irsa-svc');
    assert.equal(matchConditions?.[0]?.expression, `request.userInfo.username == "${user}"`);
    assert.equal(validations?.[0]?.expression, 'has(request.dryRun) && request.dryRun');
    assert.deepEqual(binding?.spec, { policyName: policy?.metadata.name, validationActions: ['Deny'] });
  });

  it('allow the creation of tokens only with roleTokens, and policies limit it to role tokens', () => {
    const isPolicy = ({ kind }: Rendered) => kind.startsWith('ValidatingAdmissionPolicy');
    assert.deepEqual(renderChart().filter(isPolicy), []);
    const objects = renderChart({ roleTokens: { enabled: true }, settings: { ROLE_TOKEN_SECONDS: 900 } });
    const access = accessFrom(objects);
    const user = userOf('domino-field', 'irsa-svc');
    const request = { user, verb: 'create', group: '', resource: 'serviceaccounts/token', namespace: 'domino-compute' };
    assert.ok(access(request));
    assert.ok(!access({ ...request, namespace: 'domino-field' }) && !access({ ...request, user: 'system:anonymous' }));
    const policies = objects.filter(isPolicy);
    assert.equal(policies.length, 6);
    const expressions = JSON.stringify(policies.map(({ spec }) => spec));
    for (const part of [
      'startsWith(\\"irsa/\\")',
      'boundObjectRef.uid',
      'expirationSeconds <= 900',
      `== \\"${user}\\"`,
    ]) {
      assert.ok(expressions.includes(part), part);
    }
    for (const { kind, spec } of policies) {
      const { failurePolicy, validationActions } = spec as { failurePolicy?: string; validationActions?: string[] };
      assert.deepEqual(
        kind.endsWith('Binding') ? validationActions : failurePolicy,
        kind.endsWith('Binding') ? ['Deny'] : 'Fail',
      );
    }
  });

  it('refuse role tokens of the compute namespace to every caller but the service', () => {
    const objects = renderChart({ roleTokens: { enabled: true } });
    const name = 'domino-field-irsa-svc-role-tokens-requests';
    const { spec } = objectNamed(objects, 'ValidatingAdmissionPolicy', name);
    const { matchConditions, matchConstraints, validations } = spec as {
      matchConditions?: object[];
      matchConstraints: { namespaceSelector: object; resourceRules: object[] };
      validations: { expression: string }[];
    };
    assert.equal(matchConditions, undefined, 'every request is judged');
    assert.deepEqual(matchConstraints, {
      namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'domino-compute' } },
      resourceRules: [
        { apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['serviceaccounts/token'] },
      ],
    });
    assert.deepEqual(
      validations.map(({ expression }) => expression),
      [
        `request.userInfo.username == "${userOf('domino-field', 'irsa-svc')}" || !has(object.spec.audiences) || ` +
          'object.spec.audiences.all(audience, !audience.startsWith("irsa/"))',
      ],
    );
    const binding = objectNamed(objects, 'ValidatingAdmissionPolicyBinding', name);
    assert.deepEqual(binding.spec, { policyName: name, validationActions: ['Deny'] });
  });

  it('reach the platform namespace only with Pod Identity, and only one Mutation there', () => {
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

  it('are read by accessFrom by user, verb, group, resource, namespace and name', () => {
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

  it('let the CA publisher change only its own ConfigMap', () => {
    const access = accessFrom(renderChart());
    const user = userOf('domino-field', 'irsa-svc-ca-publisher');
    const request = { user, verb: 'patch', group: '', resource: 'configmaps', namespace: 'domino-compute' };
    assert.equal(access({ ...request, name: 'irsa-ca' }), true);
    assert.equal(access({ ...request, name: 'other' }), false);
    assert.equal(access({ ...request, verb: 'delete', name: 'irsa-ca' }), false);
    assert.equal(access({ ...request, namespace: 'domino-field', name: 'irsa-ca' }), false);
  });

  it('limit the service to its own ConfigMaps by an admission policy, where it is enabled', () => {
    interface Policy extends Rendered {
      spec: {
        matchConditions: { expression: string }[];
        validations: { expression: string }[];
        policyName?: string;
      };
    }
    const kinds = ['ValidatingAdmissionPolicy', 'ValidatingAdmissionPolicyBinding'];
    assert.equal(renderChart().filter(({ kind }) => kinds.includes(kind)).length, 0);
    const objects = renderChart({ admissionPolicy: { enabled: true } });
    const [policy, binding] = kinds.map((kind) => objectNamed<Policy>(objects, kind, 'irsa-svc-domino-field'));
    assert.equal(binding?.spec.policyName, policy?.metadata.name);
    const [condition] = policy?.spec.matchConditions ?? [];
    assert.equal(condition?.expression, `request.userInfo.username == "${userOf('domino-field', 'irsa-svc')}"`);
    const expression = policy?.spec.validations[0]?.expression ?? '';
    const [, list = '[]'] = /written in (\[[^\]]*\])/.exec(expression) ?? [];
    const names = JSON.parse(list) as string[];
    // Read from the code, so that a ConfigMap that is added later is not forgotten here.
    const sources = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).filter((file) =>
      file.endsWith('.ts'),
    );
    const known = sources.flatMap((file) =>
      [...readFileSync(join(root, 'src', file), 'utf8').matchAll(/export const \w+ConfigMap = '([^']+)'/g)].map(
        ([, name]) => name,
      ),
    );
    assert.ok(known.length >= 4);
    assert.deepEqual(names.sort(), known.sort());
    const beginnings = [...expression.matchAll(/startsWith\("([^"]+)"\)/g)].map(([, text = '']) => text);
    const arn = 'arn:aws:iam::111111111111:role/acme';
    for (const name of [trustStatusForm.nameOf(arn), podIdentityStatusForm.nameOf('alice-sa')]) {
      assert.ok(
        beginnings.some((text) => name.startsWith(text)),
        name,
      );
    }
    assert.deepEqual(beginnings.sort(), ['irsa-activity-', 'irsa-pod-identity-', 'irsa-trust-']);
  });

  it('are read by accessFrom as none for a binding to a missing role, and with wildcards', () => {
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
