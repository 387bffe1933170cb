/** Proves that the message of a refusal by AWS names the refused call and role, also for the service's own role. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { accessDenied } from '../../src/aws/call.ts';
import { createEks } from '../../src/aws/eks.ts';
import { AwsError } from '../../src/aws/error.ts';
import { createIam } from '../../src/aws/iam.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { createIssuer } from '../stack/issuer.ts';

describe('refusals by AWS', () => {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-refusals-'));
  const { signal } = new AbortController();
  const names = ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN'];
  let aws: AwsStandIn;
  let saved: Record<string, string | undefined>;
  let ownRole: string;

  const messageOf = async (call: Promise<unknown>): Promise<string> => {
    const error: unknown = await call.then(
      () => undefined,
      (cause: unknown) => cause,
    );
    assert.ok(error instanceof AwsError);
    assert.equal(error.code, 'access_denied');
    return error.message;
  };
  const options = () => ({ region: 'us-west-2', monotonic: () => performance.now(), onCall: () => undefined, ownRole });

  before(async () => {
    aws = await startAws();
    const issuer = await createIssuer();
    aws.trustIssuer(issuer.issuer, issuer.jwks);
    const trust = { Version: '2012-10-17', Statement: [{ Effect: 'Deny', Principal: '*', Action: 'sts:AssumeRole' }] };
    ownRole = aws.addRole({ name: 'irsa-svc', trust }).arn;
    const file = join(folder, 'token');
    writeFileSync(file, await issuer.podToken({ serviceAccount: 'irsa-svc', pod: 'a', audience: 'sts.amazonaws.com' }));
    const variables = { ...aws.environment(), AWS_ROLE_ARN: ownRole, AWS_WEB_IDENTITY_TOKEN_FILE: file };
    saved = Object.fromEntries([...names, ...Object.keys(variables)].map((name) => [name, process.env[name]]));
    for (const name of names) delete process.env[name];
    Object.assign(process.env, variables);
  });
  after(async () => {
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    await aws.close();
    rmSync(folder, { recursive: true });
  });

  it('of the service’s own role are reported as such by IAM, STS and EKS calls', async () => {
    const iam = createIam(options());
    const eks = await createEks({ ...options(), cluster: 'acme', namespace: 'domino-compute' });
    const calls = {
      'sts:GetCallerIdentity': iam.identity(signal),
      'iam:GetRole': iam.getTrustPolicy('arn:aws:iam::111111111111:role/reader', signal),
      'eks:ListPodIdentityAssociations': eks.list({}, signal),
    };
    for (const [action, call] of Object.entries(calls)) {
      const message = await messageOf(call);
      assert.match(message, /sts:AssumeRoleWithWebIdentity for the service’s own role arn:aws:iam::\d+:role\/irsa-svc/);
      assert.ok(message.includes(action), message);
    }
  });

  it('of a call name the call and its object, also where the object’s name is unknown', () => {
    const said = 'User: arn:aws:sts::111111111111:assumed-role/irsa-svc/a is not authorized to perform: iam:GetRole';
    assert.equal(accessDenied('iam:GetRole', said, 'role x'), 'irsa-svc is not allowed to do iam:GetRole on role x');
    const self = /sts:GetCallerIdentity to the service’s own role arn:aws:sts::111111111111:assumed-role\/irsa-svc\/a$/;
    assert.match(accessDenied('sts:GetCallerIdentity', said, undefined), self);
    assert.match(accessDenied('sts:GetCallerIdentity', 'denied', undefined), /to the service’s own role$/);
  });
});
