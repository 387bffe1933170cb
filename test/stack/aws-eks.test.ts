/** Proves with the real client that the AWS stand-in keeps Pod Identity associations as EKS does. */
import assert from 'node:assert/strict';
import {
  CreatePodIdentityAssociationCommand,
  type CreatePodIdentityAssociationCommandInput,
  DeletePodIdentityAssociationCommand,
  DescribePodIdentityAssociationCommand,
  EKSClient,
  ListPodIdentityAssociationsCommand,
  paginateListPodIdentityAssociations,
  UpdatePodIdentityAssociationCommand,
  type UpdatePodIdentityAssociationCommandInput,
} from '@aws-sdk/client-eks';
import type { Clock } from '../../src/lib/clock.ts';
import { type AwsStandIn, startAws } from './aws.ts';

const ACCOUNT = '111111111111';
const AWAY = '222222222222';
const PODS = { Service: 'pods.eks.amazonaws.com' };
const TRUST = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: PODS, Action: ['sts:AssumeRole', 'sts:TagSession'] }],
};
const arnOf = (name: string, account = ACCOUNT) => `arn:aws:iam::${account}:role/${name}`;

describe('AWS stand-in: EKS', () => {
  let aws: AwsStandIn;
  let eks: EKSClient;
  let now = 1_800_000_000_000;
  let wait = async () => {};
  const clock: Clock = { now: () => now, monotonic: () => now, sleep: async () => wait() };

  const client = (key: Record<string, string> = aws.credentials, appId = 'replica-a') =>
    new EKSClient({
      endpoint: aws.url,
      region: 'us-west-2',
      maxAttempts: 1,
      userAgentAppId: appId,
      credentials: { accessKeyId: key.AWS_ACCESS_KEY_ID ?? '', secretAccessKey: key.AWS_SECRET_ACCESS_KEY ?? '' },
    });
  type Wanted = Partial<CreatePodIdentityAssociationCommandInput>;
  const create = async (wanted: Wanted = {}, by = eks) => {
    const { association } = await by.send(
      new CreatePodIdentityAssociationCommand({
        clusterName: 'acme',
        namespace: 'domino-compute',
        serviceAccount: 'svc-user-1-sa',
        roleArn: arnOf('acme-pods'),
        ...wanted,
      }),
    );
    return association ?? assert.fail('no association');
  };
  const describeIt = async (associationId: string | undefined, clusterName = 'acme') =>
    (await eks.send(new DescribePodIdentityAssociationCommand({ clusterName, associationId }))).association;
  const update = async (associationId: string | undefined, change: Partial<UpdatePodIdentityAssociationCommandInput>) =>
    (await eks.send(new UpdatePodIdentityAssociationCommand({ clusterName: 'acme', associationId, ...change })))
      .association;
  const remove = async (associationId: string | undefined, by = eks) =>
    (await by.send(new DeletePodIdentityAssociationCommand({ clusterName: 'acme', associationId }))).association;
  const refusal = (name: string, status: number, message: RegExp | string) => (error: unknown) => {
    const { name: actual, message: text, $metadata } = error as Error & { $metadata: { httpStatusCode: number } };
    assert.deepEqual([actual, $metadata.httpStatusCode], [name, status]);
    if (typeof message === 'string') assert.equal(text, message);
    else assert.match(text, message);
    return true;
  };
  const get = async (path: string) => (await fetch(`${aws.url}/__stack/${path}`)).json();

  beforeEach(async () => {
    wait = async () => {};
    aws = await startAws({ clock });
    eks = client();
    aws.addRole({ name: 'acme-pods', trust: TRUST });
  });
  afterEach(() => aws.close());

  it('creates, describes, changes and deletes an association', async () => {
    const made = await create({ tags: { owner: 'irsa-svc' } });
    assert.match(made.associationId ?? '', /^a-[a-z0-9]{17}$/);
    assert.deepEqual(made, {
      clusterName: 'acme',
      namespace: 'domino-compute',
      serviceAccount: 'svc-user-1-sa',
      roleArn: arnOf('acme-pods'),
      associationArn: `arn:aws:eks:us-west-2:${ACCOUNT}:podidentityassociation/acme/${made.associationId}`,
      associationId: made.associationId,
      tags: { owner: 'irsa-svc' },
      createdAt: new Date(now),
      modifiedAt: new Date(now),
      disableSessionTags: false,
    });
    assert.deepEqual(await describeIt(made.associationId), made);

    now += 5000;
    const target = arnOf('acme-target', AWAY);
    const changed = await update(made.associationId, { targetRoleArn: target });
    const { externalId, ...rest } = changed ?? {};
    assert.deepEqual(
      rest,
      { ...made, targetRoleArn: target, modifiedAt: new Date(now) },
      'the fields that the update leaves out stay',
    );
    assert.ok(externalId, 'the target role can require it');
    aws.addRole({ name: 'acme-pods-2', trust: TRUST });
    const again = await update(made.associationId, { roleArn: arnOf('acme-pods-2'), disableSessionTags: true });
    assert.deepEqual(again, { ...changed, roleArn: arnOf('acme-pods-2'), disableSessionTags: true });
    const cleared = await update(made.associationId, { targetRoleArn: '' });
    assert.deepEqual([cleared?.targetRoleArn, cleared?.externalId], [undefined, undefined]);

    assert.deepEqual(await remove(made.associationId), cleared);
    await assert.rejects(describeIt(made.associationId), { name: 'ResourceNotFoundException' });
    assert.deepEqual(aws.associations('acme'), []);
  });

  it('lists summaries in pages, by namespace and service account', async () => {
    const names = Array.from({ length: 101 }, (_, index) => `user-${index}-sa`);
    for (const serviceAccount of names) {
      aws.addAssociation({ namespace: 'domino-compute', serviceAccount, roleArn: arnOf('acme-pods') });
    }
    const other = await create({ namespace: 'elsewhere', serviceAccount: 'user-0-sa' });
    const list = async (input: object) =>
      eks.send(new ListPodIdentityAssociationsCommand({ clusterName: 'acme', ...input }));
    const first = await list({});
    assert.equal(first.associations?.length, 100);
    assert.ok(first.nextToken);
    const second = await list({ nextToken: first.nextToken });
    assert.deepEqual([second.associations?.length, second.nextToken], [2, undefined]);

    const found: (string | undefined)[] = [];
    const pages = paginateListPodIdentityAssociations(
      { client: eks, pageSize: 7 },
      { clusterName: 'acme', namespace: 'domino-compute' },
    );
    for await (const page of pages) {
      // A deletion between two pages must not hide other associations.
      if (found.length === 0) aws.removeAssociation(page.associations?.at(-1)?.associationId ?? '');
      found.push(...(page.associations ?? []).map((each) => each.serviceAccount));
    }
    assert.deepEqual(found.toSorted(), names.toSorted());

    const { associations } = await list({ namespace: 'elsewhere', serviceAccount: 'user-0-sa' });
    const { clusterName, namespace, serviceAccount, associationArn, associationId } = other;
    assert.deepEqual(associations, [{ clusterName, namespace, serviceAccount, associationArn, associationId }]);
    for (const wrong of [{ maxResults: 0 }, { maxResults: 101 }, { nextToken: 'nonsense' }]) {
      await assert.rejects(list(wrong), refusal('InvalidParameterException', 400, /maxResults|nextToken/));
    }
  });

  it('refuses a second association of a service account, and names the first', async () => {
    const { associationId } = await create();
    const taken = refusal('ResourceInUseException', 409, `Association already exists: ${associationId}`);
    await assert.rejects(create(), taken);
    aws.addCluster('acme-2');
    await create({ clusterName: 'acme-2' });
  });

  it('creates one association per request token, and refuses it with other parameters or after deletion', async () => {
    const token = { clientRequestToken: 'svc-user-1' };
    aws.knobs.loseAnswerNext = { CreatePodIdentityAssociation: 1 };
    await assert.rejects(create(token));
    const made = await create(token);
    assert.equal(aws.associations().length, 1);
    assert.deepEqual(await create({ ...token, tags: {} }), made);
    await assert.rejects(
      create({ ...token, tags: { other: 'yes' } }),
      refusal('InvalidParameterException', 400, /clientRequestToken.*other parameters/),
    );
    await remove(made.associationId);
    await assert.rejects(create(token), refusal('InvalidRequestException', 400, /deleted/));
    assert.deepEqual(aws.associations(), []);
    await create({ clientRequestToken: 'svc-user-1-again' });
  });

  it('accepts a request token again after it refused the first call', async () => {
    const token = { clientRequestToken: 'one', roleArn: arnOf('late') };
    await assert.rejects(create(token), { name: 'InvalidParameterException' });
    aws.addRole({ name: 'late', trust: TRUST });
    await create(token);
  });

  it('refuses an association beyond the quota', async () => {
    aws.knobs.associationQuota = 1;
    await create();
    await assert.rejects(
      create({ serviceAccount: 'svc-user-2-sa' }),
      refusal('ResourceLimitExceededException', 400, /more than 1 pod/),
    );
  });

  it('answers ResourceNotFoundException for an unknown cluster or association', async () => {
    const noCluster = refusal('ResourceNotFoundException', 404, 'No cluster found for name: none.');
    await assert.rejects(create({ clusterName: 'none' }), noCluster);
    await assert.rejects(create({}, client(aws.userCredentials(AWAY))), { name: 'ResourceNotFoundException' });
    const noAssociation = refusal('ResourceNotFoundException', 404, /No association found/);
    await assert.rejects(describeIt('a-00000000000000000'), noAssociation);
    await assert.rejects(update('a-00000000000000000', { disableSessionTags: true }), noAssociation);
    await assert.rejects(remove('a-00000000000000000'), noAssociation);
    aws.addCluster('acme-2');
    const { associationId } = await create();
    await assert.rejects(
      describeIt(associationId, 'acme-2'),
      noAssociation,
      'the association belongs to another cluster',
    );
  });

  it('refuses invalid parameters', async () => {
    const { associationId } = await create();
    const senseless = refusal('InvalidParameterException', 400, /./);
    await assert.rejects(update(associationId, {}), senseless);
    await assert.rejects(update(associationId, { targetRoleArn: 'acme-target' }), senseless);
    await assert.rejects(create({ serviceAccount: 'x', namespace: '' }), senseless);
    await assert.rejects(create({ serviceAccount: 'x', roleArn: 'acme-pods' }), senseless);
    await assert.rejects(create({ serviceAccount: 'x', tags: { 'aws:mine': 'x' } }), senseless);
    const policy = JSON.stringify({ Statement: { Effect: 'Allow', Action: '*', Resource: '*' } });
    await assert.rejects(create({ serviceAccount: 'x', policy }), senseless);
    await assert.rejects(create({ serviceAccount: 'x', policy: '{}', disableSessionTags: true }), senseless);
    const tooLong = policy.padEnd(2_049);
    await assert.rejects(create({ serviceAccount: 'x', policy: tooLong, disableSessionTags: true }), senseless);
    await assert.rejects(update(associationId, { policy }), senseless);
    await update(associationId, { policy, disableSessionTags: true });
    await assert.rejects(update(associationId, { disableSessionTags: false }), senseless);
  });

  it('refuses a role that is missing, in another AWS account, or does not trust EKS with both actions', async () => {
    const { associationId } = await create({ serviceAccount: 'x' });
    const only = (part: object) => ({ ...TRUST, Statement: [{ ...TRUST.Statement[0], ...part }] });
    aws.addRole({ name: 'away', account: AWAY, trust: TRUST });
    aws.addRole({ name: 'no-tags', trust: only({ Action: 'sts:AssumeRole' }) });
    aws.addRole({ name: 'other-service', trust: only({ Principal: { Service: 'ec2.amazonaws.com' } }) });
    aws.addRole({ name: 'denied', trust: only({ Effect: 'Deny' }) });
    const refused: [roleArn: string, message: RegExp][] = [
      [arnOf('none'), /^Role provided in the request does not exist/],
      [arnOf('away', AWAY), /^Cross-account pass role/],
      ...['no-tags', 'other-service', 'denied'].map((name): [string, RegExp] => [
        arnOf(name),
        /^Trust policy of the role provided is invalid/,
      ]),
    ];
    for (const [roleArn, message] of refused) {
      const refuses = refusal('InvalidParameterException', 400, message);
      await assert.rejects(create({ roleArn }), refuses);
      await assert.rejects(update(associationId, { roleArn }), refuses);
    }
    aws.addRole({ name: 'scoped', trust: only({ Condition: { StringEquals: { 'aws:RequestTag/x': 'y' } } }) });
    await update(associationId, { roleArn: arnOf('scoped') });
    aws.knobs.checkPodIdentityTrust = false;
    await create({ roleArn: arnOf('no-tags') });
  });

  it('applies a new trust policy after its propagation time, and refuses a deleted role', async () => {
    aws.knobs.propagationMs = 1000;
    aws.setTrust(ACCOUNT, 'acme-pods', { ...TRUST, Statement: [] });
    await create({ serviceAccount: 'x' });
    now += 1000;
    await assert.rejects(create(), { name: 'InvalidParameterException' });
    aws.removeRole(ACCOUNT, 'acme-pods');
    await assert.rejects(create(), { message: 'Role provided in the request does not exist.' });
  });

  it('refuses an unknown caller, and a caller without iam:PassRole for the role', async () => {
    const stranger = client({ AWS_ACCESS_KEY_ID: 'AKIAUNKNOWN', AWS_SECRET_ACCESS_KEY: 'x' });
    await assert.rejects(create({}, stranger), refusal('UnrecognizedClientException', 403, /security token/));
    const unsigned = await fetch(`${aws.url}/clusters/acme/pod-identity-associations`);
    assert.equal(unsigned.status, 403);
    aws.knobs.passRoleDenied = [arnOf('acme-other')];
    const { associationId } = await create();
    aws.knobs.passRoleDenied = [arnOf('acme-pods')];
    const denied = refusal(
      'AccessDeniedException',
      403,
      /^User: arn:aws:sts::111111111111:assumed-role\/irsa-svc\/irsa-svc is not authorized to perform: iam:PassRole on resource: arn:aws:iam::111111111111:role\/acme-pods/,
    );
    await assert.rejects(create({ serviceAccount: 'x' }), denied);
    await assert.rejects(update(associationId, { roleArn: arnOf('acme-pods') }), denied);
    await update(associationId, { disableSessionTags: true });
  });

  it('throttles and fails the calls that the knobs name, with EKS’s own errors', async () => {
    aws.knobs.throttleNext = { CreatePodIdentityAssociation: 1 };
    await assert.rejects(create(), refusal('ThrottlingException', 429, 'Rate exceeded'));
    aws.knobs.failRate = { DescribePodIdentityAssociation: { code: 'ServerException', rate: 1 } };
    const { associationId } = await create();
    await assert.rejects(describeIt(associationId), refusal('ServerException', 500, /./));
    aws.knobs.failRate = {};
    aws.knobs.failNext = { '*': { code: 'ServiceFailure', times: 1 } };
    await assert.rejects(describeIt(associationId), { name: 'ServerException' });
    Object.assign(aws.knobs, { readsPerSecond: 1, writesPerSecond: 1 });
    await describeIt(associationId);
    await assert.rejects(describeIt(associationId), { name: 'ThrottlingException' });
    await remove(associationId);
    await assert.rejects(create(), { name: 'ThrottlingException' });
    assert.deepEqual(aws.calls, {
      CreatePodIdentityAssociation: 3,
      DescribePodIdentityAssociation: 4,
      DeletePodIdentityAssociation: 1,
    });
  });

  it('records every write with its caller, its outcome and the writes in flight beside it', async () => {
    const { promise: gate, resolve: release } = Promise.withResolvers<void>();
    wait = () => gate;
    aws.knobs.latencyMs = { CreatePodIdentityAssociation: 100 };
    const both = [create(), create({}, client(aws.credentials, 'replica-b')), create({ serviceAccount: 'x' })];
    while (aws.eksWrites.length < 3) await new Promise(setImmediate);
    assert.ok(aws.eksWrites.every(({ endedAt, outcome }) => endedAt === undefined && outcome === undefined));
    release();
    const settled = await Promise.allSettled(both);
    assert.deepEqual(settled.map(({ status }) => status).toSorted(), ['fulfilled', 'fulfilled', 'rejected']);
    const { associationId = '' } = aws.associations().find((each) => each.serviceAccount === 'x') ?? {};
    aws.knobs.hangNext = { DeletePodIdentityAssociation: 1 };
    const giveUp = new AbortController();
    const command = new DeletePodIdentityAssociationCommand({ clusterName: 'acme', associationId });
    const hanging = eks.send(command, { abortSignal: giveUp.signal });
    while (aws.eksWrites.length < 4) await new Promise(setImmediate);
    giveUp.abort();
    await assert.rejects(hanging, { name: 'AbortError' });
    while (aws.eksWrites[3]?.outcome === undefined) await new Promise(setImmediate);
    assert.equal(aws.associations().length, 2, 'a hung call has no effect');
    aws.knobs.loseAnswerNext = { DeletePodIdentityAssociation: 1 };
    await assert.rejects(remove(associationId, client(aws.credentials, 'replica-b')));
    aws.addAssociation({ namespace: 'domino-compute', serviceAccount: 'y', roleArn: arnOf('acme-pods') });
    const [one, two] = aws.eksWrites.slice(0, 3).filter(({ serviceAccount }) => serviceAccount === 'svc-user-1-sa');
    assert.deepEqual([one?.overlaps, two?.overlaps], [0, 1]);
    assert.deepEqual([one?.outcome, two?.outcome].toSorted(), ['ResourceInUseException', 'ok']);
    assert.deepEqual(new Set([one?.by, two?.by]), new Set(['replica-a', 'replica-b']));
    assert.deepEqual(
      aws.eksWrites
        .filter(({ serviceAccount }) => serviceAccount === 'x')
        .map((write) => [write.action, write.outcome, write.by, write.associationId, write.overlaps]),
      [
        ['CreatePodIdentityAssociation', 'ok', 'replica-a', associationId, 0],
        ['DeletePodIdentityAssociation', 'hung', 'replica-a', associationId, 0],
        ['DeletePodIdentityAssociation', 'answer-lost', 'replica-b', associationId, 0],
      ],
    );
  });

  it('lets a test make, change and remove associations as another tool would, without a call', async () => {
    const theirs = aws.addAssociation({
      namespace: 'domino-compute',
      serviceAccount: 'svc-user-1-sa',
      roleArn: arnOf('acme-theirs'),
      tags: { team: 'other' },
    });
    await assert.rejects(create(), { name: 'ResourceInUseException' });
    assert.deepEqual((await describeIt(theirs.associationId))?.tags, { team: 'other' });
    const changed = aws.changeAssociation(theirs.associationId, { targetRoleArn: arnOf('t', AWAY) });
    assert.equal((await describeIt(theirs.associationId))?.externalId, changed.externalId);
    assert.throws(() => aws.addAssociation({ ...theirs }), /has an association/);
    aws.removeAssociation(theirs.associationId);
    assert.throws(() => aws.removeAssociation(theirs.associationId), /no association/);
    assert.deepEqual(
      aws.eksWrites.map(({ outcome }) => outcome),
      ['ResourceInUseException'],
    );
  });

  it('shows other processes the associations and the record of writes', async () => {
    await create();
    assert.deepEqual(await get('associations'), aws.associations());
    assert.deepEqual(await get('associations/acme'), aws.associations('acme'));
    assert.equal((await fetch(`${aws.url}/__stack/associations/none`)).status, 404);
    assert.deepEqual(await get('eks-writes'), aws.eksWrites);
    const environment = aws.environment();
    assert.deepEqual([environment.AWS_ENDPOINT_URL_EKS, environment.AWS_ENDPOINT_URL_EKS_AUTH], [aws.url, aws.url]);
  });
});
