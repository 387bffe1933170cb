/** Proves the calls to EKS: what they send, what errors mean, and that each write checks the lease last. */
import assert from 'node:assert/strict';
import { type AssociationContent, createEks, type Eks } from '../../src/aws/eks.ts';
import { AwsError } from '../../src/aws/error.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';

describe('calls to EKS', () => {
  let aws: AwsStandIn;
  let eks: Eks;
  let role: string;
  let outcomes: string[];
  let saved: Record<string, string | undefined>;
  let count = 0;
  const { signal } = new AbortController();
  const tags = { 'app.kubernetes.io/managed-by': 'irsa-svc' };
  const namespace = 'domino-compute';
  const yes = () => true;
  const codeOf = (promise: Promise<unknown>) =>
    promise.then(
      () => 'ok',
      (error: unknown) => (error instanceof AwsError ? error.code : String(error)),
    );
  const clientOf = (cluster: string) =>
    createEks({
      region: 'us-west-2',
      cluster,
      namespace,
      monotonic: () => performance.now(),
      onCall: (action, outcome) => outcomes.push(`${action} ${outcome}`),
    });
  const content = (more: Partial<AssociationContent> = {}): AssociationContent => ({
    roleArn: role,
    targetRoleArn: undefined,
    sessionTags: true,
    policy: undefined,
    ...more,
  });
  const create = (account: string, more: Partial<AssociationContent> = {}, token = `token-${account}`) =>
    eks.create(account, content(more), tags, token, signal, yes);
  const newAccount = () => {
    count += 1;
    return `svc-user-${count}-sa`;
  };

  before(async () => {
    aws = await startAws();
    const variables = { ...aws.environment(), ...aws.credentials };
    saved = Object.fromEntries(Object.keys(variables).map((name) => [name, process.env[name]]));
    Object.assign(process.env, variables);
    const Action = ['sts:AssumeRole', 'sts:TagSession'];
    const Statement = [{ Effect: 'Allow', Principal: { Service: 'pods.eks.amazonaws.com' }, Action }];
    role = aws.addRole({ name: 'acme-pod', trust: { Version: '2012-10-17', Statement } }).arn;
    outcomes = [];
    eks = await clientOf('acme');
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
    const no = () => false;
    const made = await create(newAccount());
    const before = aws.eksWrites.length;
    const { id, serviceAccount } = made;
    assert.equal(await codeOf(eks.create(newAccount(), content(), tags, 'token', signal, no)), 'not_holder');
    assert.equal(await codeOf(eks.update(id, serviceAccount, content(), signal, no)), 'not_holder');
    assert.equal(await codeOf(eks.remove(id, serviceAccount, signal, no)), 'not_holder');
    assert.equal(aws.eksWrites.length, before);
    assert.deepEqual(
      outcomes.slice(1),
      ['Create', 'Update', 'Delete'].map((verb) => `${verb}PodIdentityAssociation not_holder`),
    );
  });

  it('create, find, change and delete an association', async () => {
    const account = newAccount();
    const target = 'arn:aws:iam::222222222222:role/acme';
    const made = await create(account);
    assert.deepEqual(
      [made.serviceAccount, made.roleArn, made.targetRoleArn, made.sessionTags, made.tags, made.externalId],
      [account, role, undefined, true, tags, undefined],
    );
    assert.ok(Math.abs(Date.parse(made.createdAt) - Date.now()) < 60_000);
    assert.deepEqual(await eks.describe(made.id, signal), made);
    assert.deepEqual((await eks.list({ serviceAccount: account }, signal)).found, [
      { id: made.id, serviceAccount: account },
    ]);
    const changed = await eks.update(
      made.id,
      account,
      content({ targetRoleArn: target, sessionTags: false }),
      signal,
      yes,
    );
    assert.deepEqual([changed.targetRoleArn, changed.sessionTags], [target, false]);
    assert.ok(changed.externalId);
    await eks.remove(made.id, account, signal, yes);
    assert.equal(await eks.describe(made.id, signal), undefined);
    await eks.remove(made.id, account, signal, yes);
  });

  it('get the same association for the same token, and association_exists for another', async () => {
    const account = newAccount();
    const { id } = await create(account);
    assert.equal((await create(account)).id, id);
    assert.equal(await codeOf(create(account, {}, 'another-token')), 'association_exists');
    assert.equal(await codeOf(create(account, { sessionTags: false })), 'association_refused');
  });

  it('list only the service’s namespace, page by page', async () => {
    const names = Array.from({ length: 130 }, (_, index) => `bulk-${index}-sa`);
    for (const serviceAccount of names) aws.addAssociation({ namespace, serviceAccount, roleArn: role });
    aws.addAssociation({ namespace: 'other', serviceAccount: 'bulk-0-sa', roleArn: role });
    const first = await eks.list({}, signal);
    assert.equal(first.found.length, 100);
    assert.ok(first.next);
    const second = await eks.list({ next: first.next }, signal);
    assert.equal(second.next, undefined);
    const all = [...first.found, ...second.found].map(({ serviceAccount }) => serviceAccount);
    assert.deepEqual(all.filter((name) => name.startsWith('bulk-')).sort(), names.sort());
  });

  it('map each error to a code and whether it is transient, after one attempt', async () => {
    const codes = {
      ThrottlingException: 'throttled',
      TooManyRequestsException: 'throttled',
      ServerException: 'unavailable',
      ServiceUnavailableException: 'unavailable',
      AccessDeniedException: 'access_denied',
      InvalidParameterException: 'association_refused',
      InvalidRequestException: 'association_refused',
      ResourceLimitExceededException: 'association_quota',
      ResourceInUseException: 'association_exists',
    };
    for (const [code, expected] of Object.entries(codes)) {
      aws.resetCalls();
      aws.knobs.failNext = { CreatePodIdentityAssociation: { code, times: 1 } };
      const error = await create(newAccount()).then(
        () => assert.fail(code),
        (thrown: unknown) => thrown,
      );
      assert.ok(error instanceof AwsError);
      assert.equal(error.code, expected, code);
      assert.equal(error.transient, ['throttled', 'unavailable'].includes(expected), code);
      assert.equal(aws.calls.CreatePodIdentityAssociation, 1, code);
      assert.doesNotMatch(error.message, /Exception|AKIA|undefined/, code);
    }
    aws.knobs.failNext = {};
  });

  it('recognize from EKS’s messages what an administrator must fix', async () => {
    const ec2 = { Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' };
    const trustless = aws.addRole({ name: 'acme-trustless', trust: { Version: '2012-10-17', Statement: [ec2] } }).arn;
    const missing = role.replace('acme-pod', 'acme-missing');
    assert.equal(await codeOf(create(newAccount(), { roleArn: trustless })), 'malformed_trust_policy');
    assert.equal(await codeOf(create(newAccount(), { roleArn: missing })), 'role_not_found');
    assert.equal(await codeOf(create(newAccount(), { roleArn: role.replace('111', '222') })), 'association_refused');
    aws.knobs.passRoleDenied = [role];
    assert.equal(await codeOf(create(newAccount())), 'pass_role_denied');
    aws.knobs.passRoleDenied = [];
    aws.knobs.associationQuota = 1;
    assert.equal(await codeOf(create(newAccount())), 'association_quota');
    aws.knobs.associationQuota = 5000;
    assert.equal(await codeOf(eks.update('a-none', 'x-sa', content(), signal, yes)), 'association_not_found');
    const elsewhere = await clientOf('no-such-cluster');
    assert.equal(await codeOf(elsewhere.list({}, signal)), 'cluster_not_found');
    assert.equal(await codeOf(elsewhere.describe('a-none', signal)), 'cluster_not_found');
    assert.equal(await codeOf(elsewhere.remove('a-none', 'x-sa', signal, yes)), 'cluster_not_found');
  });

  it('report unavailable for a lost answer, a timeout and an outage', async () => {
    aws.knobs.loseAnswerNext = { CreatePodIdentityAssociation: 1 };
    const account = newAccount();
    assert.equal(await codeOf(create(account)), 'unavailable');
    assert.equal((await create(account)).serviceAccount, account);
    aws.knobs.hangNext = { DescribePodIdentityAssociation: 1 };
    assert.equal(await codeOf(eks.describe('a-none', AbortSignal.timeout(50))), 'unavailable');
    aws.knobs.down = true;
    assert.equal(await codeOf(eks.list({}, signal)), 'unavailable');
    aws.knobs.down = false;
  });
});
