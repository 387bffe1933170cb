/** Proves what the policy documents of the Terraform modules allow and what they do not, by AWS's rules. */
import assert from 'node:assert/strict';
import { editTrustPolicy } from '../../src/trust-policy/document.ts';
import { managedAccount } from '../../src/trust-policy/subjects.ts';
import { conditionContext, conditionHolds } from '../stack/aws-conditions.ts';
import { evaluatePermissions, evaluateTrust, statementsOf, type TrustRequest } from '../stack/aws-trust.ts';
import { needTerraform, openTerraform, type Terraform } from './terraform.ts';

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/0123456789ABCDEF';
const cluster = 'arn:aws:eks:us-west-2:111111111111:cluster/acme';
const association = 'arn:aws:eks:us-west-2:111111111111:podidentityassociation/acme/a-1234567890';
const role = (name: string, account = '111111111111') => `arn:aws:iam::${account}:role/${name}`;

const service = {
  partition: 'aws',
  account_id: '111111111111',
  region: 'us-west-2',
  namespace: 'domino-field',
  service_account: 'irsa-svc',
  credentials: 'irsa',
  oidc_provider: issuer,
  oidc_audience: 'sts.amazonaws.com',
  proxy_role_arns: [] as string[],
  proxy_role_prefix: 'acme-' as string | null,
  cluster_name: null as string | null,
  pod_identity_role_arns: [] as string[],
};
const withPodIdentity = { ...service, cluster_name: 'acme', pod_identity_role_arns: [role('svc-user-1-role')] };

/** Actions that could give more rights, one of each kind: the documents must not allow them. */
const powers = [
  'iam:AttachRolePolicy',
  'iam:CreateRole',
  'iam:DeleteRole',
  'iam:PassRole',
  'iam:PutRolePolicy',
  'iam:UpdateRole',
  'sts:AssumeRole',
  'sts:TagSession',
  's3:GetObject',
  'eks:CreatePodIdentityAssociation',
  'eks:DeletePodIdentityAssociation',
  'eks:DescribeCluster',
  'eks:TagResource',
];

describe('the policy documents of deploy/terraform', function () {
  this.timeout(60_000);
  let terraform: Terraform;

  before(function () {
    needTerraform(this);
    terraform = openTerraform();
  });
  after(() => terraform?.remove());

  async function documents(module: string, variables: object): Promise<Record<string, unknown>> {
    const outputs = await terraform.apply(module, variables);
    const parsed = (value: unknown): unknown => (typeof value === 'string' ? JSON.parse(value) : value);
    return Object.fromEntries(Object.entries(outputs).map(([name, value]) => [name, parsed(value)]));
  }

  /** As the stand-in's evaluator, which leaves out conditions: statements whose condition does not hold are put aside. */
  function allows(document: unknown, action: string, resource: string, keys: Record<string, string> = {}): boolean {
    const holds = statementsOf(document).filter((one) =>
      conditionHolds(one.Condition, conditionContext(keys), { variables: true }),
    );
    return evaluatePermissions([{ Statement: holds }], action, resource) === 'allowed';
  }

  describe('of the service', () => {
    it('allow reading and changing the trust policies of proxy roles by prefix, and nothing else', async () => {
      const { permissions } = await documents('service-role/policies', service);
      for (const action of ['iam:GetRole', 'iam:UpdateAssumeRolePolicy']) {
        assert.ok(allows(permissions, action, role('acme-list-bucket-role')));
        for (const other of [role('irsa-svc'), role('admin'), role('team/acme-x'), role('acme-x', '222222222222')]) {
          assert.ok(!allows(permissions, action, other), `${action} on ${other}`);
        }
      }
      for (const action of powers) {
        for (const resource of [role('acme-list-bucket-role'), cluster, association, '*']) {
          assert.ok(!allows(permissions, action, resource), `${action} on ${resource}`);
        }
      }
    });

    it('allow only the listed proxy roles where a list is given instead of the prefix', async () => {
      const only = role('acme-list-bucket-role');
      const exact = { ...service, proxy_role_prefix: null, proxy_role_arns: [only] };
      const { permissions } = await documents('service-role/policies', exact);
      assert.ok(allows(permissions, 'iam:UpdateAssumeRolePolicy', only));
      assert.ok(!allows(permissions, 'iam:UpdateAssumeRolePolicy', `${only}-2`));
    });

    it('with role tokens: allow reading the cluster’s OIDC provider, and no other', async () => {
      const provider = `arn:aws:iam::111111111111:oidc-provider/${issuer}`;
      const action = 'iam:GetOpenIDConnectProvider';
      const { permissions: without } = await documents('service-role/policies', service);
      assert.ok(!allows(without, action, provider));
      const { permissions } = await documents('service-role/policies', { ...service, role_tokens: true });
      assert.ok(allows(permissions, action, provider));
      for (const other of [`${provider}0`, provider.replace('111111111111', '222222222222'), '*']) {
        assert.ok(!allows(permissions, action, other), other);
      }
      for (const power of [
        ...powers,
        'iam:AddClientIDToOpenIDConnectProvider',
        'iam:UpdateOpenIDConnectProviderThumbprint',
      ])
        assert.ok(!allows(permissions, power, provider), power);
    });

    it('with Pod Identity: allow the cluster’s associations, and passing given roles to EKS pods only', async () => {
      const { permissions } = await documents('service-role/policies', withPodIdentity);
      const user = role('svc-user-1-role');
      const toPods = { 'iam:PassedToService': 'pods.eks.amazonaws.com' };
      const allowed: [string, string, Record<string, string>?][] = [
        ['eks:CreatePodIdentityAssociation', cluster],
        ['eks:ListPodIdentityAssociations', cluster],
        ['eks:DescribePodIdentityAssociation', association],
        ['eks:UpdatePodIdentityAssociation', association],
        ['eks:DeletePodIdentityAssociation', association],
        ['eks:TagResource', association],
        ['iam:PassRole', user, toPods],
        ['iam:GetRole', user],
        ['iam:UpdateAssumeRolePolicy', user],
        ['iam:UpdateAssumeRolePolicy', role('acme-list-bucket-role')],
      ];
      const refused: typeof allowed = [
        ['eks:CreatePodIdentityAssociation', `${cluster}-2`],
        ['eks:ListPodIdentityAssociations', '*'],
        ['eks:DeletePodIdentityAssociation', association.replace('/acme/', '/other/')],
        ['eks:DeletePodIdentityAssociation', association.replace('us-west-2', 'us-east-1')],
        ['eks:TagResource', cluster],
        ['eks:DeleteCluster', cluster],
        ['eks:CreateAccessEntry', cluster],
        ['iam:PassRole', user],
        ['iam:PassRole', user, { 'iam:PassedToService': 'ec2.amazonaws.com' }],
        ['iam:PassRole', role('acme-list-bucket-role'), toPods],
        ['iam:PassRole', role('admin'), toPods],
        ['iam:PutRolePolicy', user],
        ['iam:UpdateAssumeRolePolicy', role('svc-user-2-role')],
        ['sts:AssumeRole', user],
      ];
      for (const [action, resource, keys] of allowed) assert.ok(allows(permissions, action, resource, keys), action);
      for (const [action, resource, keys] of refused) {
        assert.ok(!allows(permissions, action, resource, keys), `${action} on ${resource}`);
      }
    });

    it('with IRSA: trust only the service account, and only with a token for STS', async () => {
      const { trust_policy: trust } = await documents('service-role/policies', service);
      const verdict = (subject: string, audience = 'sts.amazonaws.com', provider = issuer) =>
        evaluateTrust(trust, {
          action: 'sts:AssumeRoleWithWebIdentity',
          requester: { kind: 'federated', provider: `arn:aws:iam::111111111111:oidc-provider/${provider}` },
          context: conditionContext({ [`${issuer}:sub`]: subject, [`${issuer}:aud`]: audience }),
        });
      const own = 'system:serviceaccount:domino-field:irsa-svc';
      assert.equal(verdict(own), 'allowed');
      assert.equal(verdict(own, 'kubernetes.default.svc'), 'no-match');
      assert.equal(verdict(own, 'sts.amazonaws.com', 'oidc.eks.us-west-2.amazonaws.com/id/OTHER'), 'no-match');
      for (const other of [
        'domino-field:irsa-svc2',
        'domino-field:default',
        'domino-compute:irsa-svc',
        'domino-field:*',
      ]) {
        assert.equal(verdict(`system:serviceaccount:${other}`), 'no-match', other);
      }
    });

    it('with Pod Identity: trust only the service account in the cluster', async () => {
      const settings = { ...withPodIdentity, credentials: 'pod-identity' };
      const { trust_policy: trust } = await documents('service-role/policies', settings);
      const own = {
        'aws:RequestTag/eks-cluster-arn': cluster,
        'aws:RequestTag/kubernetes-namespace': 'domino-field',
        'aws:RequestTag/kubernetes-service-account': 'irsa-svc',
      };
      const verdict = (tags: Record<string, string>, requester: TrustRequest['requester'] = pods) =>
        ['sts:AssumeRole', 'sts:TagSession'].map((action) =>
          evaluateTrust(trust, { action, requester, context: conditionContext(tags) }),
        );
      const pods = { kind: 'service', name: 'pods.eks.amazonaws.com' } as const;
      assert.deepEqual(verdict(own), ['allowed', 'allowed']);
      for (const [tag, value] of Object.entries(own)) {
        assert.deepEqual(verdict({ ...own, [tag]: `${value}2` }), ['no-match', 'no-match'], tag);
        const { [tag as keyof typeof own]: _, ...without } = own;
        assert.deepEqual(verdict(without), ['no-match', 'no-match'], `without ${tag}`);
      }
      assert.deepEqual(verdict(own, { kind: 'service', name: 'ec2.amazonaws.com' }), ['no-match', 'no-match']);
    });

    it('name the partition in every ARN', async () => {
      const { permissions, trust_policy: trust } = await documents('service-role/policies', {
        ...withPodIdentity,
        partition: 'aws-us-gov',
        region: 'us-gov-west-1',
      });
      const arns = JSON.stringify([permissions, trust]).match(/arn:[^"]+/g) ?? [];
      const ours = arns.filter((arn) => !arn.includes('svc-user-1-role'));
      assert.ok(ours.length >= 4);
      for (const arn of ours) assert.match(arn, /^arn:aws-us-gov:/);
    });
  });

  describe('of proxy roles', () => {
    const variables = {
      partition: 'aws',
      account_id: '111111111111',
      oidc_provider: issuer,
      oidc_audience: 'sts.amazonaws.com',
      name_prefix: '',
      targets: { 'acme-read': { role_arn: role('acme-read', '222222222222'), proxies: 3 } },
    };
    interface Proxy {
      target: string;
      permissions: string;
      trust_policy: string;
    }

    it('admit no service account at first, by a subject that the service manages', async () => {
      const { starting_trust_policy: trust } = await documents('proxy-roles/policies', variables);
      const [statement] = statementsOf(trust) as { Condition: { StringLike: Record<string, string[]> } }[];
      const subjects = statement?.Condition.StringLike[`${issuer}:sub`] ?? [];
      assert.deepEqual(
        subjects.map((subject) => managedAccount('domino-compute', subject)),
        [''],
      );
      for (const subject of [
        'system:serviceaccount:domino-compute:run-646d27b817c28b5ea4b5b0c1',
        '',
        'system:serviceaccount:a:b',
      ]) {
        const context = conditionContext({ [`${issuer}:sub`]: subject, [`${issuer}:aud`]: 'sts.amazonaws.com' });
        const requester = { kind: 'federated', provider: `arn:aws:iam::111111111111:oidc-provider/${issuer}` } as const;
        assert.equal(evaluateTrust(trust, { action: 'sts:AssumeRoleWithWebIdentity', requester, context }), 'no-match');
      }
    });

    it('admit role tokens by a statement that the service leaves unchanged', async () => {
      const namespace = 'runs';
      const { targets } = variables;
      const byToken = {
        ...targets,
        'acme-list': { role_arn: role('acme-list', '222222222222'), proxies: 1, carrier: 'token' },
      };
      const given = { ...variables, namespace, name_prefix: 'proxy-', targets: byToken };
      const { proxies } = (await documents('proxy-roles/policies', given)) as { proxies: Record<string, Proxy> };
      const text = proxies['proxy-acme-list']?.trust_policy ?? '';
      const providerArn = `arn:aws:iam::111111111111:oidc-provider/${issuer}`;
      const isLetIn = (sub: string, aud: string, provider = providerArn) =>
        evaluateTrust(JSON.parse(text), {
          action: 'sts:AssumeRoleWithWebIdentity',
          requester: { kind: 'federated', provider },
          context: conditionContext({ [`${issuer}:sub`]: sub, [`${issuer}:aud`]: aud }),
        }) === 'allowed';
      const [run, audience] = [`system:serviceaccount:${namespace}:run-1`, 'irsa/proxy-acme-list'];
      assert.ok(isLetIn(run, audience));
      for (const other of ['sts.amazonaws.com', 'irsa/acme-list', 'irsa/proxy-acme-list-2', 'irsa/*', '']) {
        assert.ok(!isLetIn(run, other), other);
      }
      for (const other of ['system:serviceaccount:other:run-1', 'system:serviceaccount:runs-2:run-1', 'run-1', ''])
        assert.ok(!isLetIn(other, audience), other);
      assert.ok(!isLetIn(run, audience, `${providerArn}0`));
      const scope = { namespace, issuer, audience: 'sts.amazonaws.com', providerArn };
      const tokens = { audience, granted: true, denied: new Set<string>() };
      const edited = editTrustPolicy(scope, text, [], () => false, 2048, undefined, tokens);
      assert.equal(edited.kind, 'unchanged');
      // The other proxy roles admit runs by entries.
      assert.doesNotMatch(proxies['proxy-acme-read']?.trust_policy ?? '', /IrsaRoleTokens|irsa\//);
    });

    it('allow assuming their target role, and nothing else', async () => {
      const { proxies } = (await documents('proxy-roles/policies', variables)) as { proxies: Record<string, Proxy> };
      assert.deepEqual(Object.keys(proxies), ['acme-read', 'acme-read-2', 'acme-read-3']);
      for (const { permissions } of Object.values(proxies)) {
        const document: unknown = JSON.parse(permissions);
        assert.ok(allows(document, 'sts:AssumeRole', role('acme-read', '222222222222')));
        for (const other of [role('acme-read'), role('acme-read-2', '222222222222'), role('admin', '222222222222')]) {
          assert.ok(!allows(document, 'sts:AssumeRole', other), other);
        }
        for (const action of powers.filter((power) => power !== 'sts:AssumeRole')) {
          assert.ok(!allows(document, action, role('acme-read', '222222222222')), action);
        }
      }
    });
  });

  it('of target roles trust exactly their proxy roles', async () => {
    const roles = { 'acme-read': { proxy_role_arns: [role('acme-read'), role('acme-read-2')] } };
    const outputs = (await documents('target-roles/policies', { roles })) as { trust_policies: Record<string, string> };
    const trust: unknown = JSON.parse(outputs.trust_policies['acme-read'] ?? '');
    const verdict = (name: string, action = 'sts:AssumeRole', account = '111111111111') =>
      evaluateTrust(trust, {
        action,
        requester: {
          kind: 'aws',
          account,
          arn: `arn:aws:sts::${account}:assumed-role/${name}/alice`,
          roleArn: role(name, account),
        },
        context: conditionContext({}),
      });
    assert.equal(verdict('acme-read'), 'allowed');
    assert.equal(verdict('acme-read-2'), 'allowed');
    assert.equal(verdict('acme-read-3'), 'no-match');
    assert.equal(verdict('acme-read', 'sts:AssumeRole', '222222222222'), 'no-match');
    assert.equal(verdict('acme-read', 'sts:AssumeRoleWithWebIdentity'), 'no-match');
  });
});
