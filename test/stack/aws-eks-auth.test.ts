/** Proves that a pod gets the credentials of its association, also through the agent, and that no other caller does. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { decodeJwt } from 'jose';
import { type Clock, systemClock } from '../../src/lib/clock.ts';
import { type AwsStandIn, startAws } from './aws.ts';
import { hasAws, hasBoto3, type ProgramResult, runAws, runBoto3, runNode } from './clients.ts';
import { type ClusterIssuer, createIssuer, type PodTokenOptions } from './issuer.ts';
import { POD_IDENTITY_AUDIENCE, type PodIdentityAgent, startPodIdentityAgent } from './pod-identity-agent.ts';

const HOME = '111111111111';
const AWAY = '222222222222';
const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const BOTH = ['sts:AssumeRole', 'sts:TagSession'];
const NOT_PERMITTED = 'Unauthorized Exception! EKS does not have permissions to assume the associated role.';

interface Credentials {
  AccessKeyId: string;
  SecretAccessKey: string;
  Token: string;
  AccountId: string;
  Expiration: string;
}

function trustOf(Principal: object, Action: string | string[] = BOTH, Condition?: object): object {
  return { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal, Action, Condition }] };
}
const podsTrust = (action?: string | string[], condition?: object) =>
  trustOf({ Service: 'pods.eks.amazonaws.com' }, action, condition);

describe('AWS stand-in: EKS Auth', () => {
  let aws: AwsStandIn;
  let agent: PodIdentityAgent;
  let issuer: ClusterIssuer;
  let now = 1_800_000_000_000;
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => {} };

  const token = (options: Partial<PodTokenOptions> = {}) =>
    issuer.podToken({
      serviceAccount: 'svc-user-1-sa',
      pod: 'run-1',
      audience: POD_IDENTITY_AUDIENCE,
      now,
      ...options,
    });
  const ask = async (bearer?: string) =>
    fetch(agent.credentialsUrl, { headers: { authorization: bearer ?? (await token()) } });
  const credentials = async (bearer?: string) => {
    const answer = await ask(bearer);
    assert.equal(answer.status, 200, await answer.clone().text());
    return (await answer.json()) as Credentials;
  };
  const refusal = async (bearer?: string) => {
    const answer = await ask(bearer);
    return [answer.status, (await answer.text()).replace(/^\[.*?\]: /, '').trim()];
  };
  const denied = [400, `(AccessDeniedException): ${NOT_PERMITTED}, fault: client`];
  const sts = ({ AccessKeyId, SecretAccessKey, Token }: Credentials) =>
    new STSClient({
      endpoint: aws.url,
      region: 'us-west-2',
      maxAttempts: 1,
      credentials: { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token },
    });
  const whoIs = async (of: Credentials) => (await sts(of).send(new GetCallerIdentityCommand({}))).Arn ?? '';
  const associate = (rest: object = {}) =>
    aws.addAssociation({
      namespace: 'domino-compute',
      serviceAccount: 'svc-user-1-sa',
      roleArn: `arn:aws:iam::${HOME}:role/acme-pods`,
      ...rest,
    });

  before(async () => {
    issuer = await createIssuer();
  });
  beforeEach(async () => {
    aws = await startAws({ clock });
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    aws.addRole({ name: 'acme-pods', trust: podsTrust() });
    agent = await startPodIdentityAgent({ aws });
  });
  afterEach(async () => {
    await Promise.all([aws.close(), agent.close()]);
  });

  it('gives a pod a session of its role for six hours, named after cluster and pod', async () => {
    associate();
    const given = await credentials();
    assert.equal(given.AccountId, HOME);
    assert.equal(Date.parse(given.Expiration), now + 6 * 3_600_000);
    assert.match(
      await whoIs(given),
      new RegExp(`^arn:aws:sts::${HOME}:assumed-role/acme-pods/eks-acme-run-1-${UUID}$`),
    );
    assert.equal(agent.requests(), 1);
    assert.equal(aws.calls.AssumeRoleForPodIdentity, 1);
  });

  it('shortens long cluster and pod names, so that the session name has 64 characters at most', async () => {
    aws.addCluster('acme-production-blue');
    associate({ cluster: 'acme-production-blue' });
    const other = await startPodIdentityAgent({ aws, cluster: 'acme-production-blue' });
    try {
      const bearer = await token({ pod: 'run-646d27b817c28b5ea4b5b0c1-abcde' });
      const answer = await fetch(other.credentialsUrl, { headers: { authorization: bearer } });
      const name = (await whoIs((await answer.json()) as Credentials)).split('/').at(-1) ?? '';
      assert.match(name, new RegExp(`^eks-acme-produ-run-646d27-${UUID}$`));
      assert.ok(name.length <= 64);
    } finally {
      await other.close();
    }
  });

  it('refuses a pod whose service account has no association in its cluster and namespace', async () => {
    associate({ serviceAccount: 'svc-user-2-sa' });
    associate({ namespace: 'elsewhere' });
    aws.addCluster('acme-2');
    associate({ cluster: 'acme-2' });
    const [status, text] = await refusal();
    assert.equal(status, 400);
    assert.match(String(text), /^\(AccessDeniedException\): No association for service account domino-compute/);
  });

  it('refuses a malformed, forged, expired or missing token, and one of another issuer or audience', async () => {
    associate();
    const code = async (bearer: string) => /\((.*?)\)/.exec(String((await refusal(bearer))[1]))?.[1];
    const stranger = await createIssuer();
    const elsewhere = await createIssuer({ issuer: 'example.com/id/B' });
    const options = { serviceAccount: 'svc-user-1-sa', audience: POD_IDENTITY_AUDIENCE, now };
    assert.equal(await code('nonsense'), 'InvalidTokenException');
    assert.equal(await code(await token({ audience: 'sts.amazonaws.com' })), 'InvalidTokenException');
    assert.equal(await code(await stranger.podToken(options)), 'InvalidTokenException');
    assert.equal(await code(await elsewhere.podToken(options)), 'InvalidTokenException');
    assert.equal(await code(await token({ now: now - 2000, expiresInSeconds: 1 })), 'ExpiredTokenException');
    aws.addCluster('acme', { issuer: elsewhere.issuer, jwks: elsewhere.jwks });
    assert.equal(await code(await token()), 'InvalidTokenException', 'the cluster has an issuer of its own now');
    await credentials(await elsewhere.podToken(options));
    const unsent = await fetch(agent.credentialsUrl);
    assert.deepEqual([unsent.status, await unsent.text()], [400, 'Service account token cannot be empty\n']);
  });

  const tag = (name: string) => `aws:RequestTag/${name}`;
  const cases: [allowed: boolean, what: string, trust: object, tagsOff?: boolean][] = [
    [true, 'both actions', podsTrust()],
    [true, 'every action', podsTrust('sts:*')],
    [false, 'sts:AssumeRole alone', podsTrust('sts:AssumeRole')],
    [true, 'sts:AssumeRole alone, and session tags are disabled', podsTrust('sts:AssumeRole'), true],
    [false, 'sts:TagSession alone', podsTrust('sts:TagSession')],
    [false, 'another service as its principal', trustOf({ Service: 'ec2.amazonaws.com' })],
    [false, 'the AWS account as its principal', trustOf({ AWS: `arn:aws:iam::${HOME}:root` })],
    [
      true,
      'conditions on the tags of this pod',
      podsTrust(BOTH, {
        StringEquals: {
          [tag('eks-cluster-arn')]: `arn:aws:eks:us-west-2:${HOME}:cluster/acme`,
          [tag('eks-cluster-name')]: 'acme',
          [tag('kubernetes-namespace')]: ['x', 'domino-compute'],
          [tag('kubernetes-service-account')]: 'svc-user-1-sa',
          [tag('kubernetes-pod-name')]: 'run-1',
        },
        Null: { [tag('kubernetes-pod-uid')]: 'false' },
      }),
    ],
    [
      false,
      'a condition on another namespace',
      podsTrust(BOTH, { StringEquals: { [tag('kubernetes-namespace')]: 'x' } }),
    ],
    [
      false,
      'a condition on another service account',
      podsTrust(BOTH, { StringLike: { [tag('kubernetes-service-account')]: 'svc-user-2*' } }),
    ],
    [
      false,
      'a condition on a tag, and session tags are disabled',
      podsTrust(BOTH, { StringEquals: { [tag('eks-cluster-name')]: 'acme' } }),
      true,
    ],
    [
      true,
      'a condition that a tag is absent, and session tags are disabled',
      podsTrust(BOTH, { Null: { [tag('eks-cluster-name')]: 'true' } }),
      true,
    ],
    [
      true,
      'a condition on the cluster as aws:SourceArn',
      podsTrust(BOTH, { ArnLike: { 'aws:SourceArn': '*:cluster/acme' } }),
    ],
    [
      false,
      'a Deny of sts:TagSession alone',
      {
        Version: '2012-10-17',
        Statement: [
          { Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action: BOTH },
          { Effect: 'Deny', Principal: '*', Action: 'sts:TagSession' },
        ],
      },
    ],
  ];
  for (const [allowed, what, trust, disableSessionTags = false] of cases) {
    it(`${allowed ? 'gives' : 'refuses'} credentials where the trust policy has ${what}`, async () => {
      aws.addRole({ name: 'acme-pods', trust });
      associate({ disableSessionTags });
      if (allowed) await credentials();
      else assert.deepEqual(await refusal(), denied);
    });
  }

  it('evaluates a condition on the pod’s uid', async () => {
    const bearer = await token();
    const { pod } = decodeJwt(bearer)['kubernetes.io'] as { pod: { uid: string } };
    const condition = { StringEquals: { [tag('kubernetes-pod-uid')]: pod.uid } };
    aws.addRole({ name: 'acme-pods', trust: podsTrust(BOTH, condition) });
    associate();
    await credentials(bearer);
    assert.deepEqual(await refusal(await token()), denied);
  });

  it('applies a new trust policy after its propagation time, and refuses a deleted role', async () => {
    associate();
    aws.knobs.propagationMs = 2000;
    aws.setTrust(HOME, 'acme-pods', trustOf({ Service: 'ec2.amazonaws.com' }));
    await credentials();
    now += 2000;
    assert.deepEqual(await refusal(), denied);
    aws.setTrust(HOME, 'acme-pods', podsTrust());
    now += 2000;
    await credentials();
    aws.removeRole(HOME, 'acme-pods');
    assert.deepEqual(await refusal(), denied);
  });

  it('applies a caller’s change to an association after the association delay', async () => {
    aws.knobs.associationDelayMs = 5000;
    aws.addRole({ name: 'acme-pods-2', trust: podsTrust() });
    const call = async (method: string, id = '', body?: object) => {
      const answer = await fetch(`${aws.url}/clusters/acme/pod-identity-associations${id}`, {
        method,
        headers: { authorization: `Credential=${aws.credentials.AWS_ACCESS_KEY_ID}/` },
        ...(body ? { body: JSON.stringify(body) } : {}),
      });
      const { association } = (await answer.json()) as { association: { associationId: string } };
      return association.associationId;
    };
    const roleArn = `arn:aws:iam::${HOME}:role/acme-pods`;
    const id = await call('POST', '', { namespace: 'domino-compute', serviceAccount: 'svc-user-1-sa', roleArn });
    assert.equal((await refusal())[0], 400);
    now += 5000;
    assert.match(await whoIs(await credentials()), /role\/acme-pods\//);
    await call('POST', `/${id}`, { roleArn: `${roleArn}-2` });
    assert.match(await whoIs(await credentials()), /role\/acme-pods\//);
    now += 5000;
    assert.match(await whoIs(await credentials()), /role\/acme-pods-2\//);
    await call('DELETE', `/${id}`);
    await credentials();
    now += 5000;
    assert.equal((await refusal())[0], 400);
    associate();
    await credentials();
  });

  describe('with a target role', () => {
    const targetRoleArn = `arn:aws:iam::${AWAY}:role/acme-target`;
    const first = { AWS: `arn:aws:iam::${HOME}:role/acme-pods` };

    it('assumes the target role with the tags and the external id', async () => {
      const { externalId } = associate({ targetRoleArn });
      const condition = {
        StringEquals: { 'sts:ExternalId': externalId, [tag('kubernetes-namespace')]: 'domino-compute' },
        ArnEquals: { 'aws:PrincipalArn': first.AWS },
      };
      aws.addRole({ account: AWAY, name: 'acme-target', trust: trustOf(first, BOTH, condition) });
      const given = await credentials();
      assert.equal(given.AccountId, AWAY);
      assert.equal(Date.parse(given.Expiration), now + 3_600_000, 'chained sessions last an hour');
      assert.match(
        await whoIs(given),
        new RegExp(`^arn:aws:sts::${AWAY}:assumed-role/acme-target/eks-acme-run-1-${UUID}$`),
      );
    });

    it('refuses where the target role does not allow sts:TagSession, unless session tags are disabled', async () => {
      const { associationId } = associate({ targetRoleArn });
      aws.addRole({ account: AWAY, name: 'acme-target', trust: trustOf(first, 'sts:AssumeRole') });
      assert.deepEqual(await refusal(), denied);
      aws.changeAssociation(associationId, { disableSessionTags: true });
      await credentials();
    });

    it('refuses where the target role is missing, or where either role does not permit the chain', async () => {
      associate({ targetRoleArn });
      assert.deepEqual(await refusal(), denied);
      aws.addRole({ account: AWAY, name: 'acme-target', trust: trustOf({ AWS: `arn:aws:iam::${HOME}:role/x` }) });
      assert.deepEqual(await refusal(), denied);
      const other = { StringEquals: { 'sts:ExternalId': 'another' } };
      aws.addRole({ account: AWAY, name: 'acme-target', trust: trustOf(first, BOTH, other) });
      assert.deepEqual(await refusal(), denied);
      aws.addRole({ account: AWAY, name: 'acme-target', trust: trustOf(first) });
      aws.addRole({ name: 'acme-pods', trust: podsTrust(), allowAssume: [] });
      assert.deepEqual(await refusal(), denied, 'the first role’s own policy does not allow it');
    });
  });

  it('limits the session by the association’s policy; with a target role, only the target role’s session', async () => {
    const further = `arn:aws:iam::${AWAY}:role/acme-further`;
    const targetRoleArn = `arn:aws:iam::${AWAY}:role/acme-target`;
    const trust = trustOf({ AWS: [`arn:aws:iam::${HOME}:role/acme-pods`, targetRoleArn] });
    for (const name of ['acme-further', 'acme-target']) aws.addRole({ account: AWAY, name, trust });
    const policyOf = (Resource: string) => JSON.stringify({ Statement: { Effect: 'Allow', Action: '*', Resource } });
    const assume = async () =>
      sts(await credentials()).send(new AssumeRoleCommand({ RoleArn: further, RoleSessionName: 'alice' }));
    const { associationId } = associate({ disableSessionTags: true, policy: policyOf('arn:aws:s3:::acme/*') });
    for (const change of [{}, { targetRoleArn }]) {
      aws.changeAssociation(associationId, { ...change, policy: policyOf('arn:aws:s3:::acme/*') });
      await assert.rejects(assume(), { name: 'AccessDenied' });
      aws.changeAssociation(associationId, { policy: policyOf(further) });
      await assume();
    }
  });

  it('passes the tags on when a pod assumes a further role, which must allow sts:TagSession', async () => {
    associate();
    const further = `arn:aws:iam::${AWAY}:role/acme-further`;
    const first = { AWS: `arn:aws:iam::${HOME}:role/acme-pods` };
    const assume = async (from: Credentials) =>
      sts(from).send(new AssumeRoleCommand({ RoleArn: further, RoleSessionName: 'alice' }));
    aws.addRole({ account: AWAY, name: 'acme-further', trust: trustOf(first, 'sts:AssumeRole') });
    const given = await credentials();
    await assert.rejects(assume(given), { name: 'AccessDenied', message: /not authorized to perform: sts:TagSession/ });
    const condition = {
      StringEquals: {
        [tag('kubernetes-service-account')]: 'svc-user-1-sa',
        'aws:PrincipalTag/kubernetes-service-account': 'svc-user-1-sa',
      },
    };
    aws.addRole({ account: AWAY, name: 'acme-further', trust: trustOf(first, BOTH, condition) });
    await assume(given);
  });

  it('throttles, fails or is down when the knobs say so', async () => {
    associate();
    aws.knobs.throttleNext = { AssumeRoleForPodIdentity: 1 };
    assert.deepEqual(await refusal(), [429, '(ThrottlingException): Rate exceeded, fault: client']);
    aws.knobs.failNext = { AssumeRoleForPodIdentity: { code: 'InternalFailure', times: 1 } };
    const [status, text] = await refusal();
    assert.equal(status, 500);
    assert.match(String(text), /^\(InternalServerException\).*fault: server$/);
    aws.knobs.down = true;
    assert.equal((await refusal())[0], 500);
    aws.knobs.down = false;
    await credentials();
  });
});

describe('AWS stand-in: real clients through the Pod Identity Agent', function () {
  // Interpreters start cold on a busy machine.
  this.timeout(60_000);
  let aws: AwsStandIn;
  let agent: PodIdentityAgent;
  let folder: string;
  let pod: Record<string, string>;
  const expected = new RegExp(`^arn:aws:sts::${HOME}:assumed-role/acme-pods/eks-acme-run-xyz-1-${UUID}\\s*$`);

  before(async () => {
    aws = await startAws();
    const issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    aws.addRole({ name: 'acme-pods', trust: podsTrust() });
    aws.addAssociation({
      namespace: 'domino-compute',
      serviceAccount: 'svc-user-1-sa',
      roleArn: `arn:aws:iam::${HOME}:role/acme-pods`,
    });
    agent = await startPodIdentityAgent({ aws });
    folder = await mkdtemp(join(tmpdir(), 'irsa-svc-'));
    const file = join(folder, 'eks-pod-identity-token');
    const bearer = await issuer.podToken({
      serviceAccount: 'svc-user-1-sa',
      pod: 'run-xyz-1',
      audience: POD_IDENTITY_AUDIENCE,
      now: systemClock.now(),
    });
    await writeFile(file, bearer);
    pod = { ...aws.environment(), ...agent.environment(file) };
  });
  after(async () => {
    await Promise.all([aws.close(), agent.close()]);
    await rm(folder, { recursive: true, force: true });
  });
  const prints = ({ stdout, stderr, code }: ProgramResult) => {
    assert.equal(code, 0, stderr);
    assert.match(stdout, expected, stderr);
  };

  it('boto3 gets the associated role as its default credentials', async function () {
    if (!(await hasBoto3())) return skip(this, 'python3 with boto3');
    prints(await runBoto3("import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])", pod));
  });

  it('boto3 reads associations and their errors, and calls EKS Auth', async function () {
    if (!(await hasBoto3())) return skip(this, 'python3 with boto3');
    const script = `
import boto3
eks = boto3.client('eks')
[one] = eks.list_pod_identity_associations(clusterName='acme')['associations']
print(eks.describe_pod_identity_association(clusterName='acme', associationId=one['associationId'])['association']['roleArn'])
try:
    eks.describe_pod_identity_association(clusterName='none', associationId='a-1')
except eks.exceptions.ResourceNotFoundException as error:
    print(error.response['Error']['Message'])
token = open('${join(folder, 'eks-pod-identity-token')}').read()
print(boto3.client('eks-auth').assume_role_for_pod_identity(clusterName='acme', token=token)['audience'])`;
    const { stdout, stderr } = await runBoto3(script, { ...aws.environment(), ...aws.credentials });
    const lines = [`arn:aws:iam::${HOME}:role/acme-pods`, 'No cluster found for name: none.', POD_IDENTITY_AUDIENCE];
    assert.deepEqual(stdout.trim().split('\n'), lines, stderr);
  });

  it('the AWS CLI gets the associated role as its default credentials', async function () {
    if (!(await hasAws())) return skip(this, 'the AWS CLI');
    prints(await runAws(['sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], pod));
  });

  it('the JS SDK gets the associated role as its default credentials', async () => {
    const script = `
      import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
      console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;
    prints(await runNode(script, pod));
  });
});

function skip(context: Mocha.Context, what: string): void {
  console.log(`SKIPPED: ${what} is not on this machine, so this says nothing about it`);
  context.skip();
}
