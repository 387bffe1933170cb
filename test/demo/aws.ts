/** Owns the demo's use of AWS: reads trust policies from IAM, and assumes roles as a workload would. */
import {
  DescribePodIdentityAssociationCommand,
  EKSClient,
  ListPodIdentityAssociationsCommand,
  type PodIdentityAssociation,
} from '@aws-sdk/client-eks';
import { AddClientIDToOpenIDConnectProviderCommand, GetRoleCommand, IAMClient } from '@aws-sdk/client-iam';
import { AssumeRoleWithWebIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { hasAws, hasBoto3, type ProgramResult, runAws, runBoto3, runNode } from '../stack/clients.ts';
import type { System } from './system.ts';

/** AWS's answer: the ARN of the session, or the error's name and message. */
export type Assumed = { readonly arn: string } | { readonly refused: string; readonly why: string };

export interface TrustPolicy {
  readonly Statement: readonly {
    readonly Sid?: string;
    readonly Condition?: { readonly StringLike?: Readonly<Record<string, unknown>> };
  }[];
}

/** A proxy role's current trust policy in IAM. */
export async function trustPolicy({ stack }: System, roleArn: string): Promise<TrustPolicy> {
  const iam = new IAMClient({ region: 'us-west-2', endpoint: stack.awsUrl, credentials: keysOf(stack) });
  try {
    const { Role: role } = await iam.send(
      new GetRoleCommand({ RoleName: roleArn.slice(roleArn.lastIndexOf('/') + 1) }),
    );
    return JSON.parse(decodeURIComponent(role?.AssumeRolePolicyDocument ?? '')) as TrustPolicy;
  } finally {
    iam.destroy();
  }
}

/** Lists an audience in the cluster's OIDC provider. @returns the provider's ARN. */
export async function listAudience({ stack }: System, audience: string): Promise<string> {
  const iam = new IAMClient({ region: 'us-west-2', endpoint: stack.awsUrl, credentials: keysOf(stack) });
  const provider = `arn:aws:iam::111111111111:oidc-provider/${stack.environment.OIDC_PROVIDER ?? ''}`;
  const input = { OpenIDConnectProviderArn: provider, ClientID: audience };
  try {
    await iam.send(new AddClientIDToOpenIDConnectProviderCommand(input));
    return provider;
  } finally {
    iam.destroy();
  }
}

/** The number of calls to AWS for each action. */
export async function awsCalls({ stack }: System): Promise<Readonly<Record<string, number>>> {
  return (await fetch(`${stack.awsUrl}/__stack/calls`)).json() as Promise<Record<string, number>>;
}

/** The cluster's Pod Identity associations, each in full. */
export async function associations({ stack, cluster }: System): Promise<PodIdentityAssociation[]> {
  const eks = new EKSClient({ region: 'us-west-2', endpoint: stack.awsUrl, credentials: keysOf(stack) });
  try {
    const { associations: all = [] } = await eks.send(new ListPodIdentityAssociationsCommand({ clusterName: cluster }));
    const described = all.map(({ associationId }) =>
      eks.send(new DescribePodIdentityAssociationCommand({ clusterName: cluster, associationId })),
    );
    return (await Promise.all(described)).flatMap(({ association }) => association ?? []);
  } finally {
    eks.destroy();
  }
}

function keysOf({ environment }: System['stack']) {
  return {
    accessKeyId: environment.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: environment.AWS_SECRET_ACCESS_KEY ?? '',
  };
}

/** The subjects that a trust policy admits. */
export function subjectsOf({ Statement: statements }: TrustPolicy): string[] {
  return statements.flatMap(({ Condition: condition }) =>
    Object.entries(condition?.StringLike ?? {}).flatMap(([key, value]) =>
      key.endsWith(':sub') ? ([value].flat() as string[]) : [],
    ),
  );
}

/** Requests a proxy role from STS with a pod's web identity token. */
export async function assumeProxy({ stack }: System, token: string, roleArn: string): Promise<Assumed> {
  const sts = new STSClient({ region: 'us-west-2', endpoint: stack.awsUrl, maxAttempts: 1 });
  const input = { RoleArn: roleArn, RoleSessionName: 'demo', WebIdentityToken: token };
  try {
    const { AssumedRoleUser: user } = await sts.send(new AssumeRoleWithWebIdentityCommand(input));
    return { arn: user?.Arn ?? '' };
  } catch (error) {
    const { name, message } = error as Error;
    return { refused: name, why: message };
  } finally {
    sts.destroy();
  }
}

/** A program as a user runs it in a pod: it uses the config file and a profile, and does not know this service. */
export interface Program {
  readonly name: string;
  /** The words of the command that the user types. */
  readonly typed: readonly string[];
  present(): Promise<boolean>;
  run(environment: Record<string, string>): Promise<ProgramResult>;
}

const python = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])";
const javascript = `import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;

export const programs: readonly Program[] = [
  {
    name: 'the AWS SDK for JavaScript',
    typed: ['node -e', "'… (await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn …'"],
    present: async () => true,
    run: (environment) => runNode(javascript, environment),
  },
  {
    name: 'boto3',
    typed: ['python3 -c', `"${python}"`],
    present: hasBoto3,
    run: (environment) => runBoto3(python, environment),
  },
  {
    name: 'the AWS CLI',
    typed: ['aws sts get-caller-identity', '--query Arn --output text'],
    present: hasAws,
    run: (environment) => runAws(['sts', 'get-caller-identity', '--query', 'Arn', '--output', 'text'], environment),
  },
];

/** The environment of a workload: its config file and profile, and no key of any kind. */
export function workloadEnvironment({ stack, files }: System, profile: string): Record<string, string> {
  return {
    // The address of the AWS stand-in; in a cluster the SDKs know AWS's address.
    AWS_ENDPOINT_URL_STS: stack.awsUrl,
    AWS_CONFIG_FILE: files.config,
    AWS_PROFILE: profile,
  };
}

export function assumeWords(roleArn: string, file = '$AWS_WEB_IDENTITY_TOKEN_FILE'): string[] {
  const token = `"$(cat ${file})"`;
  return ['aws sts assume-role-with-web-identity', `--role-arn ${roleArn}`, `--web-identity-token ${token}`];
}

export function assumedText(assumed: Assumed): string {
  return 'refused' in assumed ? `${assumed.refused}: ${assumed.why}` : assumed.arn;
}
