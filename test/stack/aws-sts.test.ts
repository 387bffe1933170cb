/** Proves that the AWS stand-in's STS gives sessions to exactly the callers that trust policies admit. */
import assert from 'node:assert/strict';
import { IAMClient, PutRolePolicyCommand } from '@aws-sdk/client-iam';
import {
  AssumeRoleCommand,
  AssumeRoleWithWebIdentityCommand,
  type Credentials,
  GetCallerIdentityCommand,
  STSClient,
} from '@aws-sdk/client-sts';
import type { Clock } from '../../src/lib/clock.ts';
import { type AwsStandIn, startAws } from './aws.ts';
import { type ClusterIssuer, createIssuer } from './issuer.ts';

const HOME = '111111111111';
const AWAY = '222222222222';

describe('AWS stand-in: STS', () => {
  let aws: AwsStandIn;
  let issuer: ClusterIssuer;
  let now = 1_800_000_000_000;
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => {} };

  const sts = (credentials?: Credentials) =>
    new STSClient({
      endpoint: aws.url,
      region: 'us-west-2',
      maxAttempts: 1,
      credentials: {
        accessKeyId: credentials?.AccessKeyId ?? aws.credentials.AWS_ACCESS_KEY_ID ?? '',
        secretAccessKey: credentials?.SecretAccessKey ?? 'secret',
        ...(credentials?.SessionToken === undefined ? {} : { sessionToken: credentials.SessionToken }),
      },
    });
  const webTrust = (condition: object | undefined, rest: object = {}) => ({
    Version: '2012-10-17',
    Statement: [
      {
        Effect: 'Allow',
        Principal: { Federated: `arn:aws:iam::${HOME}:oidc-provider/${issuer.issuer}` },
        Action: 'sts:AssumeRoleWithWebIdentity',
        Condition: condition,
        ...rest,
      },
    ],
  });
  const subjects = (...list: string[]) => ({ StringLike: { [`${issuer.issuer}:sub`]: list } });
  const awsTrust = (principal: string) => ({
    Version: '2012-10-17',
    Statement: { Effect: 'Allow', Principal: { AWS: principal }, Action: 'sts:AssumeRole' },
  });
  const withToken = async (token?: string, role = 'proxy') =>
    sts().send(
      new AssumeRoleWithWebIdentityCommand({
        RoleArn: `arn:aws:iam::${HOME}:role/${role}`,
        RoleSessionName: 'alice',
        WebIdentityToken: token ?? (await issuer.podToken({ serviceAccount: 'run-1', now })),
      }),
    );
  const assume = (target: string, credentials?: Credentials, DurationSeconds?: number) =>
    sts(credentials).send(new AssumeRoleCommand({ RoleArn: target, RoleSessionName: 'alice', DurationSeconds }));
  const whoIs = async (credentials?: Credentials) =>
    (await sts(credentials).send(new GetCallerIdentityCommand({}))).Arn;
  const denied = { name: 'AccessDenied', message: 'Not authorized to perform sts:AssumeRoleWithWebIdentity' };

  before(async () => {
    issuer = await createIssuer();
  });
  beforeEach(async () => {
    aws = await startAws({ clock });
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    aws.addRole({ name: 'proxy', trust: webTrust(subjects('*:domino-compute:run-1')) });
  });
  afterEach(() => aws.close());

  it('GetCallerIdentity names the service’s role', async () => {
    assert.equal(await whoIs(), `arn:aws:sts::${HOME}:assumed-role/irsa-svc/irsa-svc`);
  });

  it('gives a pod the session that the trust policy allows, and refuses the session after it expires', async () => {
    const answer = await withToken();
    assert.equal(answer.AssumedRoleUser?.Arn, `arn:aws:sts::${HOME}:assumed-role/proxy/alice`);
    assert.equal(answer.SubjectFromWebIdentityToken, 'system:serviceaccount:domino-compute:run-1');
    assert.equal(answer.Credentials?.Expiration?.getTime(), now + 3_600_000);
    assert.equal(await whoIs(answer.Credentials), answer.AssumedRoleUser?.Arn);
    const { SessionToken: _, ...withoutToken } = answer.Credentials ?? {};
    await assert.rejects(whoIs(withoutToken as Credentials), { name: 'InvalidClientTokenId' });
    now += 3_600_000;
    await assert.rejects(whoIs(answer.Credentials), { name: 'ExpiredToken' });
  });

  it('refuses a malformed, forged or expired token, another issuer or audience, and a missing role', async () => {
    const stranger = await createIssuer();
    const token = (options: object, from = issuer) => from.podToken({ serviceAccount: 'run-1', now, ...options });
    const invalid = { name: 'InvalidIdentityTokenException' };
    await assert.rejects(withToken('nonsense'), invalid);
    await assert.rejects(withToken(await token({}, stranger)), invalid, 'another issuer’s key signed it');
    await assert.rejects(withToken(await token({ audience: 'vault' })), invalid);
    await assert.rejects(withToken(await token({}, await createIssuer({ issuer: 'example.com/id/B' }))), {
      ...invalid,
      message: 'No OpenIDConnect provider found in your account for https://example.com/id/B',
    });
    await assert.rejects(withToken(await token({ now: now - 2000, expiresInSeconds: 1 })), {
      name: 'ExpiredTokenException',
    });
    await assert.rejects(withToken(undefined, 'missing'), denied);
  });

  const sub = 'ISSUER:sub';
  const aud = 'ISSUER:aud';
  const one = 'system:serviceaccount:domino-compute:run-1';
  const conditions: [allowed: boolean, what: string, condition: object | undefined][] = [
    [true, 'no condition', undefined],
    [true, 'an empty list of values', { StringLike: { [sub]: [] } }],
    [true, 'the subject among several values', { StringEquals: { [sub]: ['x', one] } }],
    [false, 'no matching value', { StringEquals: { [sub]: ['x', ''] } }],
    [false, 'a wildcard under an operator without wildcards', { StringEquals: { [sub]: '*:run-1' } }],
    [true, 'matching wildcards', { StringLike: { [sub]: '*:domino-comput?:run-?' } }],
    [false, 'the subject in another case', { StringLike: { [sub]: '*:RUN-1' } }],
    [
      true,
      'the subject in another case, under StringEqualsIgnoreCase,',
      { StringEqualsIgnoreCase: { [sub]: one.toUpperCase() } },
    ],
    [true, 'a condition key in another case', { StringLike: { [sub.replace('sub', 'SUB')]: '*:run-1' } }],
    [false, 'two keys of which one does not match', { StringLike: { [sub]: '*:run-1', [aud]: 'vault' } }],
    [
      false,
      'two operators of which one does not match',
      { StringLike: { [sub]: '*' }, StringEquals: { [aud]: 'vault' } },
    ],
    [false, 'a negation of the subject', { StringNotLike: { [sub]: ['x', '*:run-1'] } }],
    [true, 'a negation of other values', { StringNotEquals: { [sub]: 'x', [aud]: 'vault' } }],
    [false, 'a key that the token lacks', { StringEquals: { 'ISSUER:amr': 'x' } }],
    [true, 'a key that the token lacks, under IfExists,', { StringEqualsIfExists: { 'ISSUER:amr': 'x' } }],
    [
      true,
      'ForAnyValue and one matching value',
      { 'ForAnyValue:StringEquals': { [aud]: ['vault', 'sts.amazonaws.com'] } },
    ],
    [false, 'ForAllValues and no matching value', { 'ForAllValues:StringEquals': { [aud]: ['vault'] } }],
    [true, 'ForAllValues and a key that the token lacks', { 'ForAllValues:StringEquals': { 'ISSUER:amr': ['x'] } }],
    [false, 'an unknown variable', { StringLike: { [sub]: `*\${aws:nobody}` } }],
    [true, 'a known variable', { StringLike: { [sub]: `\${ISSUER:sub}` } }],
    [true, 'a known variable in another case', { StringEqualsIgnoreCase: { [sub]: `\${ISSUER:SUB}` } }],
    [false, 'an unterminated variable', { StringLike: { [sub]: '*${' } }],
    [true, 'Null on a key that the token lacks', { Null: { 'ISSUER:amr': 'true' } }],
  ];
  for (const [allowed, what, condition] of conditions) {
    it(`a trust policy with ${what} ${allowed ? 'admits' : 'refuses'} the pod`, async () => {
      const text = JSON.stringify(webTrust(condition)).replaceAll('ISSUER', issuer.issuer);
      aws.setTrust(HOME, 'proxy', text);
      await (allowed ? withToken() : assert.rejects(withToken(), denied));
    });
  }

  it('treats a variable as plain text in a document of version 2008-10-17', async () => {
    const trust = webTrust(subjects(`\${${issuer.issuer}:sub}`));
    aws.setTrust(HOME, 'proxy', trust);
    await withToken();
    aws.setTrust(HOME, 'proxy', { ...trust, Version: '2008-10-17' });
    await assert.rejects(withToken(), denied);
  });

  it('refuses on a matching Deny, and where the action or the principal does not match', async () => {
    const [allow] = webTrust(undefined).Statement;
    const set = (...Statement: unknown[]) => aws.setTrust(HOME, 'proxy', { Version: '2012-10-17', Statement });
    set(allow, { ...allow, Effect: 'Deny', Condition: subjects('*:run-1') });
    await assert.rejects(withToken(), denied);
    set(allow, { ...allow, Effect: 'Deny', Condition: subjects('*:run-2') });
    await withToken();
    set({ ...allow, Action: 'sts:AssumeRole' });
    await assert.rejects(withToken(), denied);
    set({ ...allow, Action: ['STS:assumeRoleWith*'] });
    await withToken();
    set({ ...allow, Principal: { Federated: `arn:aws:iam::${AWAY}:oidc-provider/${issuer.issuer}` } });
    await assert.rejects(withToken(), denied);
    set({ ...allow, Principal: '*' });
    await withToken();
  });

  it('applies a new trust policy after its propagation time', async () => {
    aws.knobs.propagationMs = 5000;
    aws.setTrust(HOME, 'proxy', webTrust(subjects('*:run-2')));
    await withToken();
    now += 5000;
    await assert.rejects(withToken(), denied);
  });

  it('lets a session assume a role in another AWS account only where that role trusts the session', async () => {
    const { Credentials: pod } = await withToken();
    const target = aws.addRole({ account: AWAY, name: 'target', trust: awsTrust(HOME) }).arn;
    const trusts: [allowed: boolean, principal: string][] = [
      [true, `arn:aws:iam::${HOME}:role/proxy`],
      [true, `arn:aws:iam::${HOME}:root`],
      [true, HOME],
      [true, `arn:aws:sts::${HOME}:assumed-role/proxy/alice`],
      [true, '*'],
      [false, `arn:aws:iam::${HOME}:role/other`],
      [false, `arn:aws:iam::${AWAY}:root`],
    ];
    for (const [allowed, principal] of trusts) {
      aws.setTrust(AWAY, 'target', awsTrust(principal));
      if (allowed) assert.equal(await whoIs((await assume(target, pod)).Credentials), TARGET_SESSION, principal);
      else await assert.rejects(assume(target, pod), { name: 'AccessDenied', message: NOT_AUTHORIZED }, principal);
    }
  });

  it('limits a chained session to between 15 minutes and one hour', async () => {
    const { Credentials: pod } = await withToken();
    const { arn } = aws.addRole({ account: AWAY, name: 'target', trust: awsTrust(HOME), maxSessionSeconds: 43_200 });
    await assert.rejects(assume(arn, pod, 3601), { name: 'ValidationError', message: /role chaining/ });
    await assert.rejects(assume(arn, pod, 60), { name: 'ValidationError' });
    await assume(arn, pod, 900);
  });

  it('refuses a calling role whose own policies do not allow it to assume the target', async () => {
    const target = aws.addRole({ account: AWAY, name: 'target', trust: awsTrust(HOME) }).arn;
    aws.addRole({ name: 'proxy', trust: webTrust(undefined), allowAssume: [`arn:aws:iam::${AWAY}:role/other*`] });
    const { Credentials: pod } = await withToken();
    await assert.rejects(assume(target, pod), { name: 'AccessDenied' });
    const statement = { Effect: 'Allow', Action: 'sts:AssumeRole', Resource: `arn:aws:iam::${AWAY}:role/*` };
    const iam = new IAMClient({
      endpoint: aws.url,
      region: 'us-west-2',
      credentials: { accessKeyId: aws.credentials.AWS_ACCESS_KEY_ID ?? '', secretAccessKey: 'secret' },
    });
    const PolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
    await iam.send(new PutRolePolicyCommand({ RoleName: 'proxy', PolicyName: 'assume', PolicyDocument }));
    await assume(target, pod);
  });
});

const TARGET_SESSION = `arn:aws:sts::${AWAY}:assumed-role/target/alice`;
const NOT_AUTHORIZED = `User: arn:aws:sts::${HOME}:assumed-role/proxy/alice is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::${AWAY}:role/target`;
