/** Proves that boto3, the AWS CLI and the JS SDK can use the AWS stand-in, directly and through a chained profile. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type AwsStandIn, startAws } from './aws.ts';
import { hasAws, hasBoto3, type ProgramResult, runAws, runBoto3, runNode } from './clients.ts';
import { type ClusterIssuer, createIssuer } from './issuer.ts';

const HOME = '111111111111';
const AWAY = '222222222222';
const SESSION = 'alice-646d27b817c28b5ea4b5b0c1';

describe('AWS stand-in: real clients', function () {
  // Interpreters start cold on a busy machine.
  this.timeout(60_000);
  let aws: AwsStandIn;
  let issuer: ClusterIssuer;
  let folder: string;
  let profile: Record<string, string>;

  before(async () => {
    aws = await startAws();
    issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    const provider = `arn:aws:iam::${HOME}:oidc-provider/${issuer.issuer}`;
    const proxy = aws.addRole({
      name: 'acme-proxy',
      trust: trustOf({ Federated: provider }, 'sts:AssumeRoleWithWebIdentity', {
        StringLike: {
          [`${issuer.issuer}:aud`]: 'sts.amazonaws.com',
          [`${issuer.issuer}:sub`]: ['*:domino-compute:run-1'],
        },
      }),
    });
    const target = aws.addRole({
      account: AWAY,
      name: 'acme-list-bucket-role',
      trust: trustOf({ AWS: proxy.arn }, 'sts:AssumeRole'),
    });
    folder = await mkdtemp(join(tmpdir(), 'irsa-svc-'));
    const token = join(folder, 'token');
    await writeFile(token, await issuer.podToken({ serviceAccount: 'run-1' }));
    await writeFile(join(folder, 'config'), configText(proxy.arn, target.arn, token));
    profile = {
      ...aws.environment(),
      AWS_CONFIG_FILE: join(folder, 'config'),
      AWS_PROFILE: 'acme-list-bucket-role',
    };
  });
  after(async () => {
    await aws.close();
    await rm(folder, { recursive: true, force: true });
  });

  const expected = `arn:aws:sts::${AWAY}:assumed-role/acme-list-bucket-role/${SESSION}`;
  const prints = ({ stdout, stderr, code }: ProgramResult, text: string) =>
    assert.deepEqual([stdout.trim(), code], [text, 0], stderr);

  it('boto3 gets the target role through a chained profile', async function () {
    if (!(await hasBoto3())) return skip(this, 'python3 with boto3');
    prints(await runBoto3("import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])", profile), expected);
  });

  it('the AWS CLI gets the target role through a chained profile', async function () {
    if (!(await hasAws())) return skip(this, 'the AWS CLI');
    prints(await runAws(['sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], profile), expected);
  });

  it('the JS SDK gets the target role through a chained profile', async () => {
    const script = `
      import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
      console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;
    prints(await runNode(script, profile), expected);
  });

  it('boto3 reads the error codes of IAM and STS, and a decoded trust policy', async function () {
    if (!(await hasBoto3())) return skip(this, 'python3 with boto3');
    const stranger = await issuer.podToken({ serviceAccount: 'run-2' });
    const script = `
import boto3, json
iam, sts = boto3.client('iam'), boto3.client('sts')
def code(call, **arguments):
    try:
        call(**arguments)
    except Exception as error:
        return error.response['Error']['Code']
role = iam.get_role(RoleName='acme-proxy')['Role']
print(json.dumps([
    role['AssumeRolePolicyDocument']['Statement'][0]['Action'],
    code(iam.get_role, RoleName='none'),
    code(iam.update_assume_role_policy, RoleName='acme-proxy', PolicyDocument='{}'),
    code(sts.assume_role_with_web_identity, RoleArn=role['Arn'], RoleSessionName='bob', WebIdentityToken='${stranger}'),
    code(sts.assume_role_with_web_identity, RoleArn=role['Arn'], RoleSessionName='bob', WebIdentityToken='nonsense'),
]))`;
    const codes = [
      'sts:AssumeRoleWithWebIdentity',
      'NoSuchEntity',
      'MalformedPolicyDocument',
      'AccessDenied',
      'InvalidIdentityToken',
    ];
    const result = await runBoto3(script, { ...aws.environment(), ...aws.credentials });
    assert.deepEqual(JSON.parse(result.stdout || 'null'), codes, result.stderr);
  });
});

function skip(context: Mocha.Context, what: string): void {
  console.log(`SKIPPED: ${what} is not on this machine, so this says nothing about it`);
  context.skip();
}

function trustOf(principal: object, action: string, condition?: object): object {
  return {
    Version: '2012-10-17',
    Statement: [{ Effect: 'Allow', Principal: principal, Action: action, Condition: condition }],
  };
}

function configText(proxyArn: string, targetArn: string, tokenFile: string): string {
  return `# irsa-svc: roles of alice for run 646d27b817c28b5ea4b5b0c1
[profile acme-list-bucket-role]
source_profile = src_acme-list-bucket-role
role_arn = ${targetArn}
role_session_name = ${SESSION}
region = us-west-2
[profile src_acme-list-bucket-role]
web_identity_token_file = ${tokenFile}
role_arn = ${proxyArn}
role_session_name = ${SESSION}
region = us-west-2
`;
}
