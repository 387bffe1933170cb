/** Proves the calls to IAM: what they send, what errors mean, and that each write checks the lease last. */
import assert from 'node:assert/strict';
import { AwsError } from '../../src/aws/error.ts';
import { createIam, type Iam } from '../../src/aws/iam.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';

const document = (service: string) => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: service }, Action: 'sts:AssumeRole' }],
});

describe('calls to IAM', () => {
  let aws: AwsStandIn;
  let iam: Iam;
  let arn: string;
  let outcomes: string[];
  let saved: Record<string, string | undefined>;
  const { signal } = new AbortController();
  const text = JSON.stringify(document('ecs-tasks.amazonaws.com'));
  const codeOf = (promise: Promise<unknown>) =>
    promise.then(
      () => 'ok',
      (error: unknown) => (error instanceof AwsError ? error.code : String(error)),
    );

  before(async () => {
    aws = await startAws();
    const variables = { ...aws.environment(), ...aws.credentials };
    saved = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]));
    Object.assign(process.env, variables);
    arn = aws.addRole({ name: 'reader', path: '/team/x/', trust: document('ec2.amazonaws.com') }).arn;
    const onCall = (action: string, outcome: string) => outcomes.push(`${action} ${outcome}`);
    iam = createIam({ region: 'us-west-2', monotonic: () => performance.now(), onCall });
  });
  beforeEach(() => {
    outcomes = [];
    aws.resetCalls();
  });
  after(async () => {
    await aws.close();
    for (const [name, value] of Object.entries(saved)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  });

  it('invariant 1: a write is not sent when the lease is lost before it is signed', async () => {
    assert.equal(await codeOf(iam.updateTrustPolicy(arn, text, signal, () => false)), 'not_holder');
    assert.equal(aws.writes.length, 0);
    assert.deepEqual(outcomes, ['UpdateAssumeRolePolicy not_holder']);
    await iam.updateTrustPolicy(arn, text, signal, () => true);
    assert.equal(aws.writes.length, 1);
  });

  it('return the decoded document of a role with a path, and role_not_found for another path', async () => {
    assert.deepEqual(JSON.parse(await iam.getTrustPolicy(arn, signal)), JSON.parse(text));
    const elsewhere = arn.replace('/team/x/', '/team/y/');
    assert.equal(await codeOf(iam.getTrustPolicy(elsewhere, signal)), 'role_not_found');
  });

  it('invariant 8: the quota error has the quota’s number, after one attempt', async () => {
    aws.knobs.quota = 50;
    await assert.rejects(
      iam.updateTrustPolicy(arn, text, signal, () => true),
      (error: unknown) => {
        assert.ok(error instanceof AwsError);
        assert.deepEqual([error.code, error.quota, error.transient], ['trust_policy_full', 50, false]);
        return true;
      },
    );
    aws.knobs.quota = 2048;
    assert.equal(aws.calls.UpdateAssumeRolePolicy, 1);
  });

  it('map each error to a code, and to whether a retry may work, after one attempt', async () => {
    const expected: [code: string, ours: string, transient: boolean][] = [
      ['Throttling', 'throttled', true],
      ['ServiceFailure', 'unavailable', true],
      ['ConcurrentModification', 'unavailable', true],
      ['AccessDenied', 'access_denied', false],
      ['UnmodifiableEntity', 'unmodifiable_role', false],
      ['NoSuchEntity', 'role_not_found', false],
    ];
    for (const [code, ours, transient] of expected) {
      aws.resetCalls();
      aws.knobs.failNext = { UpdateAssumeRolePolicy: { code, times: 1 } };
      const error = { code: ours, transient };
      await assert.rejects(
        iam.updateTrustPolicy(arn, text, signal, () => true),
        error,
        code,
      );
      assert.equal(aws.calls.UpdateAssumeRolePolicy, 1, code);
    }
    aws.knobs.loseAnswerNext = { UpdateAssumeRolePolicy: 1 };
    assert.equal(await codeOf(iam.updateTrustPolicy(arn, text, signal, () => true)), 'unavailable');
    aws.knobs.hangNext = { GetRole: 1 };
    assert.equal(await codeOf(iam.getTrustPolicy(arn, AbortSignal.timeout(50))), 'unavailable');
  });

  it('keep IAM’s own words out of the public message', async () => {
    const principal = {
      ...document('x'),
      Statement: [{ ...document('x').Statement[0], Principal: { AWS: 'AROASECRET' } }],
    };
    await assert.rejects(
      iam.updateTrustPolicy(arn, JSON.stringify(principal), signal, () => true),
      (error: unknown) => {
        assert.ok(error instanceof AwsError);
        assert.equal(error.code, 'malformed_trust_policy');
        assert.ok(!error.message.includes('AROASECRET'));
        assert.ok(error.said?.includes('AROASECRET'));
        return true;
      },
    );
  });

  it('return the service’s own AWS account and partition', async () => {
    const { account, partition } = await iam.identity(signal);
    assert.deepEqual([account, partition], ['111111111111', 'aws']);
  });
});
