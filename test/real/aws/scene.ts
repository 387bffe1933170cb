/** Owns a world whose AWS is a third-party emulator: the service under test, its roles, and reads by another client. */
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { CreateClusterCommand, EKSClient } from '@aws-sdk/client-eks';
import {
  CreateAccessKeyCommand,
  CreateOpenIDConnectProviderCommand,
  CreateRoleCommand,
  CreateUserCommand,
  GetRoleCommand,
  IAMClient,
  PutUserPolicyCommand,
  UpdateAssumeRolePolicyCommand,
} from '@aws-sdk/client-iam';
import { AssumeRoleWithWebIdentityCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { runAws } from '../../stack/clients.ts';
import { podWebhooks } from '../../stack/pod-webhooks.ts';
import { textOf } from '../../support/pages.ts';
import { assetAccount, clusterAccount, type Replica, startWorld, type World } from '../../support/world.ts';
import { type AccessKey, type Emulator, pathWithAwsCli, rootKey, startEmulator } from './emulators.ts';
import { type FaultyWay, startFaultyWay } from './faulty-way.ts';

export interface TrustDocument {
  Version: string;
  Statement: { Sid?: string; Condition?: Record<string, Record<string, string | string[]>> }[];
}

export interface Scene {
  readonly world: World;
  readonly replica: Replica;
  readonly iam: IAMClient;
  /** What the service's calls of AWS pass; the test's own do not. */
  readonly way: FaultyWay;
  /** Service accounts that EKS's webhook gives Pod Identity, as far as the cluster knows. */
  readonly acting: Set<string>;
  /** A proxy role with a statement of its owner beside the one that the service keeps. @returns its ARN. */
  addProxy(name: string, path?: string): Promise<string>;
  map(org: string, target: string, ...proxies: string[]): Promise<void>;
  ask(run: string, as?: string): ReturnType<Replica['call']>;
  /** One call of the AWS CLI, its answer parsed. */
  cli<T>(...args: string[]): Promise<T>;
  /** The role's trust policy, by a client of the test's own. */
  trust(name: string): Promise<TrustDocument>;
  subjects(name: string): Promise<string[]>;
  /** Waits until the role's trust policy has the run as a member, or no longer. */
  untilMember(name: string, run: string, expected: boolean): Promise<void>;
  /** The actions that the service's policy does not allow, as an emulator that checks callers saw them called. */
  denied(): string[];
  /** The error's name of a call that the service's user signs with another secret. */
  withWrongSecret(): Promise<string>;
  /** What STS says to a token of the run's pod: `ok`, or the name of its error. */
  assume(roleArn: string, run: string, audience?: 'as issued'): Promise<string>;
  stop(): Promise<void>;
}

/** What the owner of a role wrote, and the service never touches. */
export const ownersStatement = {
  Sid: 'TheOwnersOwn',
  Effect: 'Allow',
  Principal: { AWS: `arn:aws:iam::${assetAccount}:root` },
  Action: 'sts:AssumeRole',
  Condition: {
    StringEquals: { 'sts:ExternalId': 'grüße & <signs> %2F "quoted"' },
    Bool: { 'aws:SecureTransport': 'true' },
  },
};
const region = 'us-west-2';
const serviceUser = 'irsa-svc';

export async function startScene(emulator: Emulator, settings: Record<string, string>): Promise<Scene> {
  const path = pathWithAwsCli();
  const aws = await startEmulator(emulator);
  const rates = { IAM_READS_PER_SECOND: '100', IAM_WRITES_PER_SECOND: '100', LEASE_SECONDS: '60', RESYNC_SECONDS: '2' };
  const issuer = emulator.issuerName === undefined ? {} : { issuerName: emulator.issuerName };
  const world = await startWorld({ ...rates, GRANT_TIMEOUT_SECONDS: '20', ...settings }, issuer);
  const way = await startFaultyWay(aws.url);
  const root = rootKey(emulator);
  const variables = variablesFor(aws.url, root);
  const own = { region, endpoint: aws.url, credentials: clientCredentials(root) };
  const iam = new IAMClient(own);
  const sts = new STSClient({ ...own, maxAttempts: 1 });
  const servicesKey = emulator.checksCallers ? await makeServiceUser(iam) : root;
  // The world has put its own there, and puts back what was there before it.
  delete process.env.AWS_SESSION_TOKEN;
  Object.assign(process.env, variablesFor(way.url, servicesKey));
  const acting = new Set<string>();
  world.kubernetes.admit(podWebhooks({ associationOf: (_namespace, account) => acting.has(account) }));
  const provider = { Url: `https://${world.issuer.issuer}`, ClientIDList: ['sts.amazonaws.com'] };
  await iam.send(new CreateOpenIDConnectProviderCommand({ ...provider, ThumbprintList: ['a'.repeat(40)] }));
  world.domino.addUser({ name: 'alice', orgs: ['acme'] });
  world.domino.addUser({ name: 'bob', orgs: ['filled'] });
  if (emulator.podIdentity) await makeCluster(iam, own);
  const replica = await world.startReplica();

  const cli = async <T>(...args: string[]): Promise<T> => {
    const { code, stdout, stderr } = await runAws([...args, '--output', 'json'], { ...variables, PATH: path });
    assert.equal(code, 0, stderr);
    return (stdout.trim() === '' ? {} : JSON.parse(stdout)) as T;
  };
  const trust = async (name: string) => {
    const { Role } = await iam.send(new GetRoleCommand({ RoleName: name }));
    return JSON.parse(decodeURIComponent(Role?.AssumeRolePolicyDocument ?? '')) as TrustDocument;
  };
  const subjects = async (name: string) => subjectsOf(await trust(name), world.issuer.issuer);

  return {
    world,
    replica,
    iam,
    way,
    acting,
    cli,
    trust,
    subjects,
    addProxy: async (name, Path = '/') => {
      const AssumeRolePolicyDocument = JSON.stringify(firstTrust(world.issuer.issuer));
      const { Role } = await iam.send(new CreateRoleCommand({ RoleName: name, Path, AssumeRolePolicyDocument }));
      return Role?.Arn ?? '';
    },
    map: async (org, target, ...proxies) => {
      const data = proxies.map((proxy) => ({ iam_role_arn: target, proxy_iam_role_arn: proxy }));
      const answer = await replica.call('POST', '/update_multirole_mapping', {
        as: 'admin',
        body: { domino_org: org, role_data: data },
      });
      assert.equal(answer.status, 200, answer.text);
    },
    ask: (run, as = 'alice') => replica.call('POST', '/map_iam_roles_to_pod_sa', { as, body: { run_id: run } }),
    untilMember: async (name, run, expected) => {
      for (let look = 0; look < 300; look += 1) {
        if ((await subjects(name)).includes(`*:domino-compute:run-${run}`) === expected) return;
        await delay(200);
      }
      assert.fail(`${name}: run ${run} is ${expected ? 'no member' : 'still a member'}: ${await subjects(name)}`);
    },
    assume: async (RoleArn, run, audience) => {
      const token = await world.issuer.podToken({ serviceAccount: `run-${run}` });
      const isPlain = emulator.judgesTrust === 'token audience' && audience === undefined;
      const WebIdentityToken = isPlain ? withPlainAudience(token) : token;
      const command = new AssumeRoleWithWebIdentityCommand({
        RoleArn,
        RoleSessionName: `alice-${run}`,
        WebIdentityToken,
      });
      return sts.send(command).then(
        () => 'ok',
        (error: Error) => error.name,
      );
    },
    denied: () => {
      const lines = aws.output.map(stripVTControlCharacters).filter((line) => line.includes(`user/${serviceUser}`));
      return lines.flatMap((line) => / evaluation denied request .*\baction=(\S+)/.exec(line)?.[1] ?? []);
    },
    withWrongSecret: async () => {
      const wrong = { ...clientCredentials(servicesKey), secretAccessKey: 'wrong' };
      const client = new STSClient({ region, endpoint: aws.url, credentials: wrong });
      const said = client.send(new GetCallerIdentityCommand({})).then(
        () => 'ok',
        (error: Error) => error.name,
      );
      return said.finally(() => client.destroy());
    },
    stop: async () => {
      iam.destroy();
      sts.destroy();
      // The emulator last: the service may still write.
      await world.stop();
      await way.close();
      await aws.stop();
    },
  };
}

/** Replaces a role's trust policy, as its owner would. */
export async function putTrust(iam: IAMClient, name: string, document: object): Promise<void> {
  const PolicyDocument = JSON.stringify(document);
  await iam.send(new UpdateAssumeRolePolicyCommand({ RoleName: name, PolicyDocument }));
}

function variablesFor(url: string, key: AccessKey): Record<string, string> {
  const services = ['', '_IAM', '_STS', '_EKS', '_EKS_AUTH'].map((name) => [`AWS_ENDPOINT_URL${name}`, url]);
  return { ...Object.fromEntries(services), ...key, AWS_REGION: region, AWS_DEFAULT_REGION: region };
}

const clientCredentials = (key: AccessKey) => ({
  accessKeyId: key.AWS_ACCESS_KEY_ID,
  secretAccessKey: key.AWS_SECRET_ACCESS_KEY,
});

/** A user who is allowed what docs/aws-permissions.md gives the service, also for the role that has a path. */
async function makeServiceUser(iam: IAMClient): Promise<AccessKey> {
  const [, document = ''] = /```json\n([\s\S]*?)```/.exec(textOf('docs/aws-permissions.md')) ?? [];
  const roles = `"arn:aws:iam::${clusterAccount}:role/acme-*"`;
  assert.ok(document.includes(roles));
  const PolicyDocument = document.replace(roles, `${roles}, ${roles.replace('role/', 'role/team/data/')}`);
  const UserName = serviceUser;
  await iam.send(new CreateUserCommand({ UserName }));
  await iam.send(new PutUserPolicyCommand({ UserName, PolicyName: 'service', PolicyDocument }));
  const { AccessKey: key } = await iam.send(new CreateAccessKeyCommand({ UserName }));
  return { AWS_ACCESS_KEY_ID: key?.AccessKeyId ?? '', AWS_SECRET_ACCESS_KEY: key?.SecretAccessKey ?? '' };
}

function firstTrust(issuer: string): object {
  return {
    Version: '2012-10-17',
    Statement: [
      ownersStatement,
      {
        Effect: 'Allow',
        Principal: { Federated: `arn:aws:iam::${clusterAccount}:oidc-provider/${issuer}` },
        Action: 'sts:AssumeRoleWithWebIdentity',
        Condition: { StringLike: { [`${issuer}:aud`]: 'sts.amazonaws.com', [`${issuer}:sub`]: '' } },
      },
    ],
  };
}

function subjectsOf({ Statement: statements }: TrustDocument, issuer: string): string[] {
  return statements.flatMap(({ Condition = {} }) =>
    Object.values(Condition).flatMap((keys) => keys[`${issuer}:sub`] ?? []),
  );
}

/** The same token with its one audience as a string; its signature no longer holds, which these emulators do not check. */
function withPlainAudience(token: string): string {
  const [header, payload = '', signature] = token.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { aud: string[] };
  const plain = Buffer.from(JSON.stringify({ ...claims, aud: claims.aud[0] })).toString('base64url');
  return [header, plain, signature].join('.');
}

/** The cluster of the Pod Identity associations. */
async function makeCluster(iam: IAMClient, own: ConstructorParameters<typeof EKSClient>[0] & object): Promise<void> {
  const eks = new EKSClient(own);
  const trust = { Effect: 'Allow', Principal: { Service: 'eks.amazonaws.com' }, Action: 'sts:AssumeRole' };
  const AssumeRolePolicyDocument = JSON.stringify({ Version: '2012-10-17', Statement: [trust] });
  const { Role } = await iam.send(new CreateRoleCommand({ RoleName: 'eks', AssumeRolePolicyDocument }));
  const input = { name: 'acme', roleArn: Role?.Arn, resourcesVpcConfig: { subnetIds: ['subnet-1'] } };
  await eks.send(new CreateClusterCommand(input));
  eks.destroy();
}
