/** Proves with real clients that the AWS stand-in's IAM, its record of writes and its knobs work as they should. */
import assert from 'node:assert/strict';
import {
  CreateRoleCommand,
  DeleteRoleCommand,
  GetRoleCommand,
  GetRolePolicyCommand,
  IAMClient,
  ListRolesCommand,
  PutRolePolicyCommand,
  UpdateAssumeRolePolicyCommand,
} from '@aws-sdk/client-iam';
import type { Clock } from '../../src/lib/clock.ts';
import { type AwsStandIn, startAws } from './aws.ts';

const ACCOUNT = '111111111111';
const TRUST = {
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${ACCOUNT}:root` }, Action: 'sts:AssumeRole' }],
};

function trustWith(part: Record<string, unknown>): string {
  return JSON.stringify({ ...TRUST, Statement: [{ ...TRUST.Statement[0], ...part }] });
}

function client(aws: AwsStandIn, key: Record<string, string> = aws.credentials, appId = 'replica-a'): IAMClient {
  return new IAMClient({
    endpoint: aws.url,
    region: 'us-west-2',
    maxAttempts: 1,
    userAgentAppId: appId,
    credentials: { accessKeyId: key.AWS_ACCESS_KEY_ID ?? '', secretAccessKey: key.AWS_SECRET_ACCESS_KEY ?? '' },
  });
}

describe('AWS stand-in: IAM', () => {
  let aws: AwsStandIn;
  let iam: IAMClient;
  let now = 1_800_000_000_000;
  let slept: number[] = [];
  let wait = async () => {};
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    sleep: async (ms) => {
      slept.push(ms);
      await wait();
    },
  };
  const read = async (name: string) => {
    const { Role: role } = await iam.send(new GetRoleCommand({ RoleName: name }));
    return JSON.parse(decodeURIComponent(role?.AssumeRolePolicyDocument ?? '')) as unknown;
  };
  const update = (name: string, document: string, by = iam) =>
    by.send(new UpdateAssumeRolePolicyCommand({ RoleName: name, PolicyDocument: document }));
  const post = (path: string, body: unknown) =>
    fetch(`${aws.url}/__stack/${path}`, { method: 'POST', body: JSON.stringify(body) });
  const get = async (path: string) => (await fetch(`${aws.url}/__stack/${path}`)).json();

  beforeEach(async () => {
    slept = [];
    wait = async () => {};
    aws = await startAws({ clock });
    iam = client(aws);
    aws.addRole({ name: 'proxy', path: '/team/x/', trust: TRUST });
  });
  afterEach(() => aws.close());

  it('returns a role by its name, with its path in the ARN and its document percent-encoded', async () => {
    aws.setTrust(ACCOUNT, 'proxy', trustWith({ Action: ['sts:AssumeRole', 'sts:*'] }));
    const { Role: role } = await iam.send(new GetRoleCommand({ RoleName: 'proxy' }));
    assert.equal(role?.Arn, `arn:aws:iam::${ACCOUNT}:role/team/x/proxy`);
    assert.equal(role?.Path, '/team/x/');
    assert.match(role?.AssumeRolePolicyDocument ?? '', /^%7B.*sts%3A%2A/);
    await assert.rejects(read('team/x/proxy'), { Code: 'ValidationError' });
  });

  it('creates, lists and deletes roles, and keeps inline policies', async () => {
    const trust = JSON.stringify(TRUST);
    await iam.send(new CreateRoleCommand({ RoleName: 'new', Path: '/a/', AssumeRolePolicyDocument: trust }));
    await assert.rejects(iam.send(new CreateRoleCommand({ RoleName: 'new', AssumeRolePolicyDocument: trust })), {
      name: 'EntityAlreadyExistsException',
    });
    const { Roles: roles } = await iam.send(new ListRolesCommand({ PathPrefix: '/a/' }));
    assert.deepEqual(
      roles?.map((role) => role.RoleName),
      ['new'],
    );
    const policy = { RoleName: 'new', PolicyName: 'p', PolicyDocument: '{"Statement":[]}' };
    await iam.send(new PutRolePolicyCommand(policy));
    const back = await iam.send(new GetRolePolicyCommand({ RoleName: 'new', PolicyName: 'p' }));
    assert.equal(decodeURIComponent(back.PolicyDocument ?? ''), policy.PolicyDocument);
    await iam.send(new DeleteRoleCommand({ RoleName: 'new' }));
    await assert.rejects(read('new'), { name: 'NoSuchEntityException', Code: 'NoSuchEntity' });
  });

  it('acts on the account that the access key belongs to', async () => {
    const other = client(aws, aws.userCredentials('222222222222'));
    await assert.rejects(other.send(new GetRoleCommand({ RoleName: 'proxy' })), { name: 'NoSuchEntityException' });
    const stranger = client(aws, { AWS_ACCESS_KEY_ID: 'AKIAUNKNOWN', AWS_SECRET_ACCESS_KEY: 'x' });
    await assert.rejects(stranger.send(new GetRoleCommand({ RoleName: 'proxy' })), { Code: 'InvalidClientTokenId' });
  });

  it('refuses a missing or unmodifiable role and a malformed trust policy with IAM’s error codes', async () => {
    aws.addRole({ name: 'linked', trust: TRUST, unmodifiable: true });
    await assert.rejects(update('linked', JSON.stringify(TRUST)), { Code: 'UnmodifiableEntity' });
    await assert.rejects(update('missing', JSON.stringify(TRUST)), { Code: 'NoSuchEntity' });
    const malformed: Record<string, string> = {
      'no JSON': '{',
      'a list': '[]',
      'no statement': '{"Version":"2012-10-17","Statement":[]}',
      'an unknown version': JSON.stringify({ ...TRUST, Version: '2020-01-01' }),
      'a resource': trustWith({ Resource: '*' }),
      'an unknown effect': trustWith({ Effect: 'allow' }),
      'no action': trustWith({ Action: undefined }),
      'an action of another service': trustWith({ Action: 's3:GetObject' }),
      'no principal': trustWith({ Principal: undefined }),
      'a deleted principal': trustWith({ Principal: { AWS: 'AROAEXAMPLEEXAMPLE123' } }),
      'an unknown kind of principal': trustWith({ Principal: { Robot: 'x' } }),
      'an unknown operator': trustWith({ Condition: { StringIs: { 'a:b': 'c' } } }),
      'a value that is an object': trustWith({ Condition: { StringLike: { 'a:b': { c: 1 } } } }),
    };
    for (const [what, document] of Object.entries(malformed)) {
      await assert.rejects(update('proxy', document), { Code: 'MalformedPolicyDocument' }, what);
    }
    assert.equal(aws.role(ACCOUNT, 'proxy').history.length, 1);
    await update('proxy', trustWith({ Condition: { 'ForAnyValue:StringLikeIfExists': { 'a:b': [] } } }));
    await update('proxy', JSON.stringify({ Statement: { ...TRUST.Statement[0], Principal: '*' } }));
  });

  it('counts characters without white space against the quota of the role, the account or the default', async () => {
    const size = JSON.stringify(TRUST).length;
    const quotaError = { Code: 'LimitExceeded', message: `Cannot exceed quota for ACLSizePerRole: ${size - 1}` };
    aws.knobs.quota = size - 1;
    await assert.rejects(update('proxy', JSON.stringify(TRUST)), quotaError);
    aws.knobs.quotaByAccount[ACCOUNT] = size;
    await update('proxy', JSON.stringify(TRUST, undefined, 4));
    aws.addRole({ name: 'small', trust: TRUST, quota: size - 1 });
    await assert.rejects(update('small', JSON.stringify(TRUST)), quotaError);
  });

  it('records every write with its caller, its outcome and the number of writes in flight beside it', async () => {
    const { promise: gate, resolve: release } = Promise.withResolvers<void>();
    wait = () => gate;
    aws.knobs.latencyMs = { UpdateAssumeRolePolicy: 100 };
    const both = [update('proxy', trustWith({ Sid: 'A' })), update('proxy', trustWith({ Sid: 'B' }))];
    while (aws.writes.length < 2) await new Promise(setImmediate);
    release();
    await Promise.all(both);
    delete aws.knobs.latencyMs.UpdateAssumeRolePolicy;
    await assert.rejects(update('proxy', '{', client(aws, aws.credentials, 'replica-b')));
    assert.deepEqual(
      aws.writes.map(({ overlaps, outcome, by }) => [overlaps, outcome, by]),
      [
        [0, 'ok', 'replica-a'],
        [1, 'ok', 'replica-a'],
        [0, 'MalformedPolicyDocument', 'replica-b'],
      ],
    );
    assert.equal(aws.role(ACCOUNT, 'proxy').history.length, 3);
    aws.setTrust(ACCOUNT, 'proxy', TRUST);
    assert.equal(aws.writes.length, 3, "another tool's edit is not counted as the service's write");
    assert.equal(aws.role(ACCOUNT, 'proxy').history.at(-1)?.by, 'outsider');
  });

  it('returns the old document for as long as reads are stale', async () => {
    aws.knobs.staleReadMs = 2000;
    await update('proxy', trustWith({ Sid: 'New' }));
    assert.deepEqual(await read('proxy'), TRUST);
    now += 2000;
    assert.deepEqual(await read('proxy'), JSON.parse(trustWith({ Sid: 'New' })));
  });

  it('throttles, fails and slows down the calls that the knobs name', async () => {
    aws.knobs.throttleNext = { GetRole: 1 };
    await assert.rejects(read('proxy'), { Code: 'Throttling' });
    aws.knobs.failNext = { '*': { code: 'ServiceFailure', times: 1 } };
    await assert.rejects(read('proxy'), { Code: 'ServiceFailure' });
    await post('knobs', { failNext: { UpdateAssumeRolePolicy: { code: 'ConcurrentModification', times: 1 } } });
    await assert.rejects(update('proxy', JSON.stringify(TRUST)), { Code: 'ConcurrentModification' });
    aws.knobs.latencyMs = { GetRole: 60 };
    await read('proxy');
    assert.deepEqual(slept, [30, 30]);
    assert.equal((await post('knobs', { nonsense: 1 })).status, 400);
  });

  it('throttles calls above the rates per second that the knobs set', async () => {
    Object.assign(aws.knobs, { readsPerSecond: 2, writesPerSecond: 1 });
    await read('proxy');
    await read('proxy');
    await assert.rejects(read('proxy'), { Code: 'Throttling' });
    await update('proxy', JSON.stringify(TRUST));
    await assert.rejects(update('proxy', JSON.stringify(TRUST)), { Code: 'Throttling' });
    now += 1000;
    await read('proxy');
    await update('proxy', JSON.stringify(TRUST));
  });

  it('loses the answer after a write, hangs, or is down when the knobs say so', async () => {
    aws.knobs.loseAnswerNext = { UpdateAssumeRolePolicy: 1 };
    await assert.rejects(update('proxy', trustWith({ Sid: 'Lost' })));
    assert.deepEqual(await read('proxy'), JSON.parse(trustWith({ Sid: 'Lost' })));
    aws.knobs.hangNext = { UpdateAssumeRolePolicy: 1 };
    const giveUp = new AbortController();
    const command = new UpdateAssumeRolePolicyCommand({ RoleName: 'proxy', PolicyDocument: JSON.stringify(TRUST) });
    const hanging = iam.send(command, { abortSignal: giveUp.signal });
    while (aws.writes.length < 2) await new Promise(setImmediate);
    giveUp.abort();
    await assert.rejects(hanging, { name: 'AbortError' });
    while (aws.writes[1]?.outcome === undefined) await new Promise(setImmediate);
    assert.deepEqual(
      aws.writes.map((write) => write.outcome),
      ['answer-lost', 'hung'],
    );
    aws.knobs.down = true;
    await assert.rejects(read('proxy'));
    await post('knobs', { down: false });
    await read('proxy');
  });

  it('shows other processes the calls, the writes and the roles', async () => {
    await read('proxy');
    await update('proxy', JSON.stringify(TRUST));
    assert.deepEqual(await get('calls'), { GetRole: 1, UpdateAssumeRolePolicy: 1 });
    assert.deepEqual(await get('writes'), aws.writes);
    assert.deepEqual((await get(`roles/${ACCOUNT}/proxy`)) as unknown, { ...aws.role(ACCOUNT, 'proxy') });
    assert.equal((await fetch(`${aws.url}/__stack/roles/${ACCOUNT}/none`)).status, 404);
    await post('reset-calls', {});
    assert.deepEqual(aws.calls, {});
  });
});
