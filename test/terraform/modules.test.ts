/** Proves the Terraform modules with the real Terraform: with what they create, runs get their roles, and no others. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { GetRolePolicyCommand } from '@aws-sdk/client-iam';
import { AssumeRoleCommand, AssumeRoleWithWebIdentityCommand, type Credentials, STSClient } from '@aws-sdk/client-sts';
import { parse } from 'yaml';
import { evaluatePermissions } from '../stack/aws-trust.ts';
import { which } from '../stack/clients.ts';
import { assumes } from '../support/roles.ts';
import { assetAccount, clusterAccount, type Replica, runId, startWorld, type World } from '../support/world.ts';
import { type ProviderStandIn, startProvider } from './provider.ts';
import { accountOf } from './resources.ts';
import { needTerraform, openTerraform, type Terraform } from './terraform.ts';

const root = join(import.meta.dirname, '..', '..');
const modules = ['service-role', 'proxy-roles', 'target-roles'];
const role = (name: string, account = clusterAccount) => `arn:aws:iam::${account}:role/${name}`;

describe('deploy/terraform', function () {
  this.timeout(60_000);
  let world: World;
  let provider: ProviderStandIn;
  let terraform: Terraform;
  let example: Record<string, unknown>;

  before(async function () {
    needTerraform(this);
    world = await startWorld();
    provider = await startProvider(world.aws);
    example = {
      ...(await exampleFile()),
      cluster_account: clusterAccount,
      data_account: assetAccount,
      data_account_role_arn: role('terraform', assetAccount),
      region: 'us-west-2',
      oidc_provider: world.issuer.issuer,
    };
  });
  beforeEach(() => {
    terraform = openTerraform(provider.environment);
  });
  afterEach(() => terraform?.remove());
  after(async () => {
    await provider?.close();
    await world?.stop();
  });

  it('is formatted', async () => {
    const { code, stdout } = await terraform.run('.', 'fmt', '-check', '-recursive', '-no-color');
    assert.deepEqual([code, stdout], [0, '']);
  });

  for (const module of [...modules, 'examples/acme']) {
    it(`${module} is valid`, async () => {
      const init = await terraform.run(module, 'init', '-no-color', '-input=false');
      assert.equal(init.code, 0, init.stderr);
      const { code, stdout, stderr } = await terraform.run(module, 'validate', '-no-color');
      assert.equal(code, 0, stdout + stderr);
    });
  }

  /** The variables of terraform.tfvars.example, read by Terraform. */
  async function exampleFile(): Promise<Record<string, unknown>> {
    const reader = openTerraform(provider.environment);
    try {
      await reader.run('examples/acme', 'init', '-no-color', '-input=false');
      const args = ['plan', '-no-color', '-input=false', '-out=plan', '-var-file=terraform.tfvars.example'];
      const { code, stdout, stderr } = await reader.run('examples/acme', ...args);
      assert.equal(code, 0, stdout + stderr);
      const shown = await reader.run('examples/acme', 'show', '-json', 'plan');
      const { variables } = JSON.parse(shown.stdout) as { variables: Record<string, { value: unknown }> };
      return Object.fromEntries(Object.entries(variables).map(([name, { value }]) => [name, value]));
    } finally {
      reader.remove();
    }
  }

  it('the example refuses a plan without prefix, roles or organizations, so none replaces existing roles', async () => {
    assert.ok(Object.keys(example).length > 7);
    for (const name of ['prefix', 'roles', 'organizations']) {
      const { [name]: _, ...others } = example;
      const refused = await terraform.refusal('examples/acme', others);
      assert.match(refused, new RegExp(`No value for required variable.*variable "${name}"`));
    }
  });

  it('git ignores terraform.tfvars in this repository, but not in a copy of the folder elsewhere', function () {
    if (!which('git')) {
      console.warn('SKIPPED: what git ignores: this machine has no git');
      return this.skip();
    }
    const git = mkdtempSync(join(tmpdir(), 'irsa-git-'));
    const paths = (folder: string) =>
      [
        'terraform.tfvars',
        'x.auto.tfvars.json',
        'terraform.tfstate',
        'terraform.tfstate.backup',
        '.terraform/x',
        'main.tf',
      ].map((name) => `${folder}/examples/acme/${name}`);
    try {
      cpSync(join(root, '.gitignore'), join(git, '.gitignore'));
      for (const folder of ['deploy/terraform', 'my-irsa'])
        cpSync(join(root, 'deploy/terraform'), join(git, folder), { recursive: true });
      const run = (...args: string[]) => spawnSync('git', args, { cwd: git, encoding: 'utf8' });
      assert.equal(run('init', '-q').status, 0);
      const ignored = (folder: string) =>
        run('check-ignore', ...paths(folder))
          .stdout.split('\n')
          .filter(Boolean)
          .map((path) => basename(path));
      const state = ['terraform.tfstate', 'terraform.tfstate.backup', 'x'];
      assert.deepEqual(ignored('my-irsa'), state);
      assert.deepEqual(ignored('deploy/terraform'), ['terraform.tfvars', 'x.auto.tfvars.json', ...state]);
    } finally {
      rmSync(git, { recursive: true, force: true });
    }
  });

  it('the example refuses a prefix that a target role begins with', async () => {
    assert.match(await terraform.refusal('examples/acme', { ...example, prefix: 'acme-' }), /write its trust policy/);
  });

  for (const { what, number, dataAccount, prefix, more } of [
    { what: 'in two AWS accounts', number: 1, dataAccount: assetAccount, prefix: 'acme-proxy-', more: {} },
    // Proxy roles and target roles are then in the same account, and their names must not collide.
    {
      what: 'in one AWS account',
      number: 2,
      dataAccount: clusterAccount,
      prefix: 'acme-blue-',
      more: { data_account: clusterAccount, data_account_role_arn: null, prefix: 'acme-blue-' },
    },
  ])
    describe(`the example ${what}`, () => {
      const run = runId(number);
      const target = (name: string) => role(name, dataAccount);
      const proxy = (name: string) => role(`${prefix}${name}`);
      let replica: Replica;
      let outputs: { mapping_requests: Record<string, string>; helm_values: string };

      let applied: Terraform;

      before(async () => {
        replica = await world.startReplica();
        world.domino.addUser({ name: 'alice', orgs: ['data-science'] });
        world.startRun(run, 'alice');
        // The stack has a role of that name to start with: here Terraform makes it.
        world.aws.removeRole(clusterAccount, 'irsa-svc');
        applied = openTerraform(provider.environment);
        outputs = (await applied.apply('examples/acme', { ...example, ...more })) as typeof outputs;
        for (const text of Object.values(outputs.mapping_requests)) {
          const body: unknown = JSON.parse(text);
          const { status } = await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body });
          assert.equal(status, 200);
        }
      });
      after(async () => {
        applied?.remove();
        await replica?.stop();
      });

      async function assume(first: string, second: string): Promise<string> {
        const sts = new STSClient({ region: 'us-west-2', maxAttempts: 1 });
        const WebIdentityToken = await world.issuer.podToken({ serviceAccount: `run-${run}` });
        const input = { RoleArn: first, RoleSessionName: 'alice', WebIdentityToken };
        const { Credentials: made } = await sts.send(new AssumeRoleWithWebIdentityCommand(input));
        const chained = new STSClient({ region: 'us-west-2', maxAttempts: 1, credentials: keysOf(made) });
        const assumed = await chained.send(new AssumeRoleCommand({ RoleArn: second, RoleSessionName: 'alice' }));
        return assumed.AssumedRoleUser?.Arn ?? '';
      }
      const keysOf = (credentials?: Credentials) => ({
        accessKeyId: credentials?.AccessKeyId ?? '',
        secretAccessKey: credentials?.SecretAccessKey ?? '',
        sessionToken: credentials?.SessionToken ?? '',
      });

      it('gives a run the roles of its organization through the printed mapping, and no others', async () => {
        const granted = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
        assert.deepEqual(
          [...granted.text.matchAll(/^\[profile (acme.+)\]$/gm)].map(([, name]) => name),
          ['acme-list-bucket-role', 'acme-read-bucket-role'],
        );
        const [list, read] = ['acme-list-bucket-role', 'acme-read-bucket-role'];
        const session = `arn:aws:sts::${dataAccount}:assumed-role/${list}/alice`;
        assert.equal(await assume(proxy(list), target(list)), session);
        await assert.rejects(assume(proxy(list), target(read)), /not authorized to perform: sts:AssumeRole/);
        const update = 'acme-update-bucket-role';
        await assert.rejects(assume(proxy(update), target(update)), /AssumeRoleWithWebIdentity/);
      });

      it('leaves existing trust policies to the service: a plan or an apply removes no run', async () => {
        await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'alice', body: { run_id: run } });
        const subject = `*:domino-compute:run-${run}`;
        assert.deepEqual(world.subjects(`${prefix}acme-list-bucket-role`), [subject]);
        const plan = await applied.run('examples/acme', 'plan', '-detailed-exitcode', '-no-color', '-input=false');
        assert.equal(plan.code, 0, plan.stdout + plan.stderr);
        const again = await applied.run('examples/acme', 'apply', '-auto-approve', '-no-color', '-input=false');
        assert.match(again.stdout, /0 added, 0 changed, 0 destroyed/);
        assert.deepEqual(world.subjects(`${prefix}acme-list-bucket-role`), [subject]);
      });

      it('lets the service write the trust policies of its proxy roles, and of no target role', async () => {
        const { iam } = accountOf(world.aws, clusterAccount);
        const names = { RoleName: 'irsa-svc', PolicyName: 'irsa-svc' };
        const { PolicyDocument = '' } = await iam.send(new GetRolePolicyCommand(names));
        const policy: unknown = JSON.parse(decodeURIComponent(PolicyDocument));
        const mayWrite = (arn: string) =>
          evaluatePermissions([policy], 'iam:UpdateAssumeRolePolicy', arn) === 'allowed';
        const targets = ['acme-list-bucket-role', 'acme-read-bucket-role', 'acme-update-bucket-role'];
        const mapped = Object.values(outputs.mapping_requests).flatMap(
          (text) =>
            (JSON.parse(text) as { role_data: { iam_role_arn: string; proxy_iam_role_arn: string }[] }).role_data,
        );
        assert.deepEqual(
          mapped.map(({ proxy_iam_role_arn: arn }) => arn).sort(),
          ['acme-list-bucket-role', 'acme-read-bucket-role', 'acme-read-bucket-role-2', 'acme-update-bucket-role'].map(
            proxy,
          ),
        );
        assert.ok(mapped.every(({ proxy_iam_role_arn: arn }) => mayWrite(arn)));
        assert.deepEqual([...new Set(mapped.map(({ iam_role_arn: arn }) => arn))].sort(), targets.map(target));
        for (const arn of [...targets.map(target), ...targets.map((name) => role(name)), role('irsa-svc')]) {
          assert.ok(!mayWrite(arn), arn);
        }
      });

      it('prints Helm values that the chart has', () => {
        const values = parse(outputs.helm_values) as Record<string, unknown>;
        const known = parse(readFileSync(join(root, 'deploy/helm/irsa/values.yaml'), 'utf8')) as Record<
          string,
          unknown
        >;
        assert.deepEqual(
          pathsOf(values).filter((path) => !pathsOf(known).includes(path)),
          [],
        );
        assert.deepEqual(values.serviceAccount, { name: 'irsa-svc', roleArn: role('irsa-svc') });
        assert.deepEqual(values.podIdentity, { enabled: false, clusterName: '' });
      });
    });

  it('a pool grows without a replacement of its first proxy role', async () => {
    const variables = (proxies: number) => ({
      oidc_provider: world.issuer.issuer,
      targets: { 'acme-pool': { role_arn: role('acme-pool', assetAccount), proxies } },
    });
    await terraform.apply('proxy-roles', variables(1));
    const before = world.aws.role(clusterAccount, 'acme-pool');
    const { role_arns: arns } = await terraform.apply('proxy-roles', variables(2));
    assert.deepEqual(arns, { 'acme-pool': [role('acme-pool'), role('acme-pool-2')] });
    assert.equal(world.aws.role(clusterAccount, 'acme-pool').history, before.history);
  });

  it('a run gets a role with carrier token through the printed mapping and the printed audiences', async () => {
    const replica = await world.startReplica();
    const [list, read] = ['acme-list', 'acme-read'].map((name) => ({ role_arn: role(name, assetAccount) }));
    const outputs = await terraform.apply('proxy-roles', {
      oidc_provider: world.issuer.issuer,
      name_prefix: 'tokens-',
      targets: { 'acme-list': { ...list, carrier: 'token' }, 'acme-read': { ...read, proxies: 2 } },
      organizations: { tokens: ['acme-list', 'acme-read'], entries: ['acme-read'] },
      default_profiles: { tokens: 'acme-read' },
    });
    const { client_ids: clientIds, mapping_requests: requests } = outputs as {
      client_ids: string[];
      mapping_requests: Record<string, string>;
    };
    assert.deepEqual(clientIds, ['irsa/tokens-acme-list']);
    const dataOf = (org: string) =>
      (JSON.parse(requests[org] ?? '') as { role_data: Record<string, unknown>[] }).role_data;
    assert.deepEqual(
      ['tokens', 'entries'].map((org) =>
        dataOf(org).map(({ proxy_iam_role_arn: proxy, carrier, default_profile: isDefault }) => [
          proxy,
          carrier,
          isDefault,
        ]),
      ),
      [
        [
          [role('tokens-acme-list'), 'token', undefined],
          [role('tokens-acme-read'), undefined, true],
          [role('tokens-acme-read-2'), undefined, true],
        ],
        [
          [role('tokens-acme-read'), undefined, undefined],
          [role('tokens-acme-read-2'), undefined, undefined],
        ],
      ],
    );
    const body: unknown = JSON.parse(requests.tokens ?? '');
    assert.equal((await replica.call('POST', '/update_multirole_mapping', { as: 'admin', body })).status, 200);
    world.aws.trustIssuer(world.issuer.issuer, world.issuer.jwks, { clientIds: ['sts.amazonaws.com', ...clientIds] });
    world.domino.addUser({ name: 'bob', orgs: ['tokens'] });
    const run = runId(3);
    const { pod } = world.startRun(run, 'bob');
    const asked = { run_id: run, role_tokens: true };
    const config = await replica.call('POST', '/map_iam_roles_to_pod_sa', { as: 'bob', body: asked });
    assert.match(config.text, /\[profile acme-list\]/);
    const given = await replica.call('POST', '/role_tokens', { as: 'bob', body: { run_id: run, pod } });
    const [first] = given.body.tokens as { token: string }[];
    assert.ok(await assumes(first?.token ?? '', role('tokens-acme-list')), given.text);
    await replica.stop();
  });

  it('the Helm values enable role tokens only with role_tokens', async () => {
    const variables = {
      name: 'tokens-svc',
      region: 'us-west-2',
      oidc_provider: world.issuer.issuer,
      proxy_role_prefix: 'acme-',
    };
    for (const enabled of [true, false]) {
      const more = enabled ? { role_tokens: true } : {};
      const { helm_values: text } = await terraform.apply('service-role', { ...variables, ...more });
      assert.deepEqual((parse(String(text)) as Record<string, unknown>).roleTokens, { enabled });
    }
  });

  it('with Pod Identity the service’s service account gets an association, and the chart no role ARN', async () => {
    const name = 'acme-irsa-service';
    const { helm_values: text } = await terraform.apply('service-role', {
      name,
      path: '/domino/',
      region: 'us-west-2',
      oidc_provider: world.issuer.issuer,
      credentials: 'pod-identity',
      cluster_name: 'acme',
      proxy_role_arns: [role('acme-list-bucket-role')],
      pod_identity_role_arns: [role('svc-user-1-role')],
    });
    const [association] = world.aws.associations('acme');
    assert.deepEqual(
      [association?.namespace, association?.serviceAccount, association?.roleArn],
      ['domino-field', 'irsa-svc', role(`domino/${name}`)],
    );
    const values = parse(String(text)) as Record<string, unknown>;
    assert.deepEqual(values.serviceAccount, { name: 'irsa-svc', roleArn: '' });
    assert.deepEqual(values.podIdentity, { enabled: true, clusterName: 'acme' });
  });

  const service = { region: 'us-west-2', oidc_provider: 'oidc.eks.us-west-2.amazonaws.com/id/X' };
  const target = { role_arn: role('acme-read', assetAccount) };
  const proxies = { oidc_provider: service.oidc_provider, targets: { 'acme-read': target } };
  const refused: [string, string, object, RegExp][] = [
    [
      'an issuer with a scheme',
      'service-role',
      { ...service, oidc_provider: 'https://x/id/y', proxy_role_prefix: 'acme-' },
      /without https/,
    ],
    ['a service without proxy roles', 'service-role', service, /Give proxy_role_arns, or proxy_role_prefix/],
    ['a prefix that is a wildcard', 'service-role', { ...service, proxy_role_prefix: '*' }, /no wildcard/],
    ['a list with a wildcard', 'service-role', { ...service, proxy_role_arns: [role('*')] }, /without a wildcard/],
    [
      'a prefix that covers the role of the service',
      'service-role',
      { ...service, proxy_role_prefix: 'irsa-' },
      /covers the service's own role/,
    ],
    [
      'a wildcard for a namespace',
      'service-role',
      { ...service, proxy_role_prefix: 'acme-', namespace: '*' },
      /without a wildcard/,
    ],
    [
      'a wildcard for a service account',
      'service-role',
      { ...service, proxy_role_prefix: 'acme-', service_account: 'irsa*' },
      /without a wildcard/,
    ],
    [
      'Pod Identity without a cluster',
      'service-role',
      { ...service, proxy_role_prefix: 'acme-', credentials: 'pod-identity' },
      /needs cluster_name/,
    ],
    [
      'Pod Identity for every role',
      'service-role',
      { ...service, proxy_role_prefix: 'acme-', cluster_name: 'acme', pod_identity_role_arns: ['*'] },
      /without a wildcard/,
    ],
    [
      'an unknown kind of credentials',
      'service-role',
      { ...service, proxy_role_prefix: 'acme-', credentials: 'keys' },
      /irsa or pod-identity/,
    ],
    [
      'a wildcard for a target role',
      'proxy-roles',
      { ...proxies, targets: { a: { role_arn: role('*', assetAccount) } } },
      /without a wildcard/,
    ],
    [
      'an unknown carrier',
      'proxy-roles',
      { ...proxies, targets: { a: { ...target, carrier: 'tokens' } } },
      /carrier is entry or token/,
    ],
    [
      'a pool for a role with carrier token',
      'proxy-roles',
      { ...proxies, targets: { a: { ...target, carrier: 'token', proxies: 2 } } },
      /has one proxy role/,
    ],
    [
      'a default profile that is no target of its organization',
      'proxy-roles',
      { ...proxies, organizations: { acme: [] }, default_profiles: { acme: 'acme-read' } },
      /a target of its organization/,
    ],
    [
      'a number of proxy roles that is not whole',
      'proxy-roles',
      { ...proxies, targets: { a: { ...target, proxies: 1.5 } } },
      /whole number/,
    ],
    [
      'two proxy roles with the same name',
      'proxy-roles',
      { ...proxies, targets: { a: { ...target, proxies: 2 }, 'a-2': target } },
      /one name/,
    ],
    [
      'a role name that is too long',
      'proxy-roles',
      { ...proxies, targets: { ['a'.repeat(63)]: { ...target, proxies: 2 } } },
      /at most 64/,
    ],
    [
      'an organization with an unknown key',
      'proxy-roles',
      { ...proxies, organizations: { acme: ['acme-raed'] } },
      /not in targets/,
    ],
    [
      'a target role that trusts a whole AWS account',
      'target-roles',
      { roles: { a: { proxy_role_arns: ['arn:aws:iam::111111111111:root'] } } },
      /let in everybody/,
    ],
    [
      'a target role without proxy roles',
      'target-roles',
      { roles: { a: { proxy_role_arns: [] } } },
      /at least one proxy/,
    ],
    [
      'a policy that is not JSON',
      'target-roles',
      { roles: { a: { proxy_role_arns: [role('a')], policy: '{' } } },
      /as JSON/,
    ],
  ];
  for (const [what, module, variables, sentence] of refused) {
    it(`refuses ${what}, and says what is expected`, async () => {
      assert.match(await terraform.refusal(module, variables), sentence);
    });
  }

  it('refuses more proxy roles than a target role’s trust policy can hold, until the limit is raised', async () => {
    const names = Array.from({ length: 29 }, (_, index) => role(`acme-proxy-acme-list-bucket-role-${index + 1}`));
    const variables = { roles: { 'acme-list-bucket-role': { proxy_role_arns: names } } };
    assert.match(
      await terraform.refusal('target-roles', variables),
      /acme-list-bucket-role would name 29 proxy roles in [\d]{4} characters: more than trust_policy_max_chars/,
    );
    const raised = ['plan', '-no-color', '-input=false', '-var=trust_policy_max_chars=4096'];
    const { code, stderr } = await terraform.run('target-roles', ...raised);
    assert.equal(code, 0, stderr);
  });

  it('documents exactly its variables and outputs in README.md', () => {
    const readme = readFileSync(join(root, 'deploy/terraform/README.md'), 'utf8');
    for (const module of modules) {
      const [, section = ''] = new RegExp(`^## ${module}\\n([\\s\\S]*?)(?=^## |(?![\\s\\S]))`, 'm').exec(readme) ?? [];
      const listed = [...section.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
      const folder = join(root, 'deploy/terraform', module);
      const files = readdirSync(folder)
        .filter((name) => /^(variables|outputs)\.tf$/.test(name))
        .sort()
        .reverse();
      const text = files.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
      const declared = [...text.matchAll(/^(?:variable|output) "(\w+)"/gm)].map(([, name]) => name);
      assert.deepEqual(listed, declared, module);
    }
  });
});

/** `env.namespace.field`, … */
function pathsOf(values: Record<string, unknown>, above = ''): string[] {
  return Object.entries(values).flatMap(([name, value]) =>
    typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length > 0
      ? pathsOf(value as Record<string, unknown>, `${above}${name}.`)
      : [`${above}${name}`],
  );
}
