/** Proves what wins in the credential chains of boto3, the AWS CLI and the JS SDK, as docs/pod-identity.md says. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { hasAws, hasBoto3, type ProgramResult, runAws, runBoto3, runNode } from '../stack/clients.ts';
import { createIssuer } from '../stack/issuer.ts';
import { POD_IDENTITY_AUDIENCE, type PodIdentityAgent, startPodIdentityAgent } from '../stack/pod-identity-agent.ts';

const account = 'svc-user-1-sa';
const both = ['sts:AssumeRole', 'sts:TagSession'];
const python = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
const javascript = `import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;

interface Client {
  name: string;
  present: () => Promise<boolean>;
  run: (environment: Record<string, string>) => Promise<ProgramResult>;
}

const [boto3, cli, js]: [Client, Client, Client] = [
  { name: 'boto3', present: hasBoto3, run: (environment) => runBoto3(python, environment) },
  {
    name: 'the AWS CLI',
    present: hasAws,
    run: (environment) => runAws(['sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], environment),
  },
  { name: 'the JS SDK', present: async () => true, run: (environment) => runNode(javascript, environment) },
];

/** The client's identity: the role of Pod Identity, a role of the config file, or keys; or its error message. */
type Outcome = 'pods' | 'target' | 'proxy' | 'keys' | RegExp;

interface Case {
  what: string;
  /** Environment variables beside those of Pod Identity, by their name in `values`. */
  given: readonly (keyof Values)[];
  boto3: Outcome;
  cli: Outcome;
  js: Outcome;
}

interface Values {
  config: Record<string, string>;
  configWithDefault: Record<string, string>;
  profile: Record<string, string>;
  missingProfile: Record<string, string>;
  refusedProfile: Record<string, string>;
  onFromPods: Record<string, string>;
  tokenFile: Record<string, string>;
  roleArn: Record<string, string>;
  keys: Record<string, string>;
}

const same = (outcome: Outcome) => ({ boto3: outcome, cli: outcome, js: outcome });
const incomplete = /assume role with web identity but has no role ARN configured/i;

const cases: readonly Case[] = [
  { what: 'no other setting', given: [], ...same('pods') },
  { what: 'a config file without a selected profile', given: ['config'], ...same('pods') },
  { what: 'a selected profile', given: ['config', 'profile'], ...same('target') },
  { what: 'a profile named default', given: ['configWithDefault'], ...same('proxy') },
  { what: 'AWS_WEB_IDENTITY_TOKEN_FILE alone', given: ['tokenFile'], boto3: incomplete, cli: incomplete, js: 'pods' },
  {
    what: 'AWS_WEB_IDENTITY_TOKEN_FILE and a selected profile',
    given: ['config', 'profile', 'tokenFile'],
    ...same('target'),
  },
  { what: 'AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN', given: ['tokenFile', 'roleArn'], ...same('proxy') },
  {
    what: 'AWS_WEB_IDENTITY_TOKEN_FILE with AWS_ROLE_ARN and a selected profile',
    given: ['config', 'profile', 'tokenFile', 'roleArn'],
    ...same('target'),
  },
  { what: 'keys in the environment', given: ['keys'], ...same('keys') },
  {
    what: 'keys in the environment and a selected profile',
    given: ['config', 'profile', 'keys'],
    boto3: 'keys',
    cli: 'keys',
    js: 'target',
  },
  {
    what: 'a selected profile that does not exist',
    given: ['config', 'missingProfile'],
    boto3: /could not be found/,
    cli: /could not be found/,
    js: 'pods',
  },
  {
    what: 'a selected profile whose role STS refuses',
    given: ['config', 'refusedProfile'],
    ...same(/AccessDenied|not authorized/),
  },
  { what: 'a selected profile whose source is Pod Identity', given: ['config', 'onFromPods'], ...same('target') },
];

describe('credential chains in a pod with Pod Identity', function () {
  // Interpreters start cold on a busy machine.
  this.timeout(60_000);
  const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-chains-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  let aws: AwsStandIn;
  let agent: PodIdentityAgent;
  let pod: Record<string, string>;
  let values: Values;
  let arns: Record<'pods' | 'target' | 'proxy' | 'keys', RegExp>;

  before(async () => {
    aws = await startAws();
    const issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    const pods = aws.addRole({ name: 'acme-pods', trust: trustOf({ Service: 'pods.eks.amazonaws.com' }, both) });
    aws.addAssociation({ namespace: 'domino-compute', serviceAccount: account, roleArn: pods.arn });
    const federated = `arn:aws:iam::111111111111:oidc-provider/${issuer.issuer}`;
    const condition = { StringLike: { [`${issuer.issuer}:sub`]: [`*:domino-compute:${account}`] } };
    const proxy = aws.addRole({
      name: 'acme-proxy',
      trust: trustOf({ Federated: federated }, 'sts:AssumeRoleWithWebIdentity', condition),
    });
    addTarget(both);
    agent = await startPodIdentityAgent({ aws });
    const bearer = await issuer.podToken({ serviceAccount: account, pod: 'run-1', audience: POD_IDENTITY_AUDIENCE });
    const token = file('token', await issuer.podToken({ serviceAccount: account }));
    const target = 'arn:aws:iam::222222222222:role/acme-target';
    const source = `web_identity_token_file = ${token}\nrole_arn = ${proxy.arn}\nrole_session_name = me\n`;
    const profiles =
      `[profile acme-target]\nsource_profile = src\nrole_arn = ${target}\nrole_session_name = me\n` +
      `[profile src]\n${source}` +
      `[profile refused]\nsource_profile = src\nrole_arn = ${target}-2\nrole_session_name = me\n` +
      `[profile on]\ncredential_source = EcsContainer\nrole_arn = ${target}\nrole_session_name = me\n`;
    const keys = aws.userCredentials('111111111111', 'somebody');
    values = {
      config: { AWS_CONFIG_FILE: file('config', profiles) },
      configWithDefault: { AWS_CONFIG_FILE: file('with-default', `[default]\n${source}${profiles}`) },
      profile: { AWS_PROFILE: 'acme-target' },
      missingProfile: { AWS_PROFILE: 'acme-typo' },
      refusedProfile: { AWS_PROFILE: 'refused' },
      onFromPods: { AWS_PROFILE: 'on' },
      tokenFile: { AWS_WEB_IDENTITY_TOKEN_FILE: token },
      roleArn: { AWS_ROLE_ARN: proxy.arn },
      keys: Object.fromEntries(Object.entries(keys).filter(([name]) => name.startsWith('AWS_'))),
    };
    pod = { ...aws.environment(), ...agent.environment(file('eks-pod-identity-token', bearer)) };
    arns = {
      pods: /^arn:aws:sts::111111111111:assumed-role\/acme-pods\/eks-acme-/,
      target: /^arn:aws:sts::222222222222:assumed-role\/acme-target\/me$/,
      proxy: /^arn:aws:sts::111111111111:assumed-role\/acme-proxy\//,
      keys: /^arn:aws:iam::111111111111:user\/somebody$/,
    };
  });
  after(async () => {
    await Promise.all([aws.close(), agent.close()]);
    rmSync(folder, { recursive: true, force: true });
  });

  function addTarget(actions: string[]): void {
    const first = { AWS: ['acme-pods', 'acme-proxy'].map((name) => `arn:aws:iam::111111111111:role/${name}`) };
    aws.addRole({ account: '222222222222', name: 'acme-target', trust: trustOf(first, actions) });
  }

  async function expectOutcome(client: Client, given: readonly (keyof Values)[], outcome: Outcome) {
    const environment = Object.assign({}, pod, ...given.map((name) => values[name])) as Record<string, string>;
    const { stdout, stderr, code } = await client.run(environment);
    if (outcome instanceof RegExp) {
      assert.notEqual(code, 0, stdout);
      assert.match(stderr, outcome);
      return;
    }
    assert.equal(code, 0, stderr);
    assert.match(stdout.trim(), arns[outcome]);
  }

  for (const client of [boto3, cli, js]) {
    describe(client.name, () => {
      before(async function () {
        if (!(await client.present())) skip(this, client.name);
      });
      const key = client === boto3 ? 'boto3' : client === cli ? 'cli' : 'js';
      for (const { what, given, [key]: outcome } of cases) {
        const found = outcome instanceof RegExp ? 'an error' : outcome;
        it(`${what}: ${found}`, () => expectOutcome(client, given, outcome));
      }

      it('a role assumed from Pod Identity must allow its session tags', async () => {
        addTarget(['sts:AssumeRole']);
        try {
          await expectOutcome(
            client,
            ['config', 'onFromPods'],
            /AccessDenied|not authorized to perform: sts:TagSession/,
          );
          await expectOutcome(client, ['config', 'profile'], 'target');
        } finally {
          addTarget(both);
        }
      });
    });
  }
});

function trustOf(Principal: object, Action: string | string[], Condition?: object): object {
  return { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal, Action, Condition }] };
}

function skip(context: Mocha.Context, what: string): void {
  console.log(`SKIPPED: ${what} is not on this machine, so this says nothing about it`);
  context.skip();
}
