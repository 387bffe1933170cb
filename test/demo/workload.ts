/** Owns the demo's workloads under Pod Identity: pods that domsed and EKS changed, and AWS clients that run in them. */
import { join } from 'node:path';
import type { V1Pod } from '@kubernetes/client-node';
import { hasBoto3, type ProgramResult, runBoto3, runNode } from '../stack/clients.ts';
import { podIdentityUri } from '../stack/pod-webhooks.ts';
import { layOutPod } from '../stack/pod-world.ts';
import type { System } from './system.ts';

export interface Workload {
  readonly user: string;
  readonly run: string;
  readonly pod: string;
  /** The pod's service account after admission. */
  readonly account: string;
  /** The variables of its main container that lead AWS clients to credentials. */
  readonly variables: Readonly<Record<string, string>>;
  /** Asks AWS for the workload's identity, with a client that does not know this service. */
  whoAmI(more?: Record<string, string>): Promise<ProgramResult>;
}

/** The client: boto3, if this machine has it. */
export interface Client {
  readonly name: string;
  readonly typed: readonly string[];
  run(environment: Record<string, string>): Promise<ProgramResult>;
}

const python =
  "import boto3, logging; boto3.set_stream_logger('botocore.credentials', logging.DEBUG); " +
  "print(boto3.client('sts').get_caller_identity()['Arn'])";
const javascript = `import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
console.log((await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn);`;

export async function client(): Promise<Client> {
  if (await hasBoto3()) {
    return { name: 'boto3', typed: ['python -c', `"${python}"`], run: (given) => runBoto3(python, given) };
  }
  const typed = ['node -e', "'… (await new STSClient({}).send(new GetCallerIdentityCommand({}))).Arn …'"];
  return { name: 'the AWS SDK for JavaScript', typed, run: (given) => runNode(javascript, given) };
}

/** Starts a run of the user, as Domino does. */
export async function startWorkload(system: System, user: string, run: string): Promise<Workload> {
  const { stack, files, agentUrl } = system;
  const made: V1Pod = await stack.order('start-workload', { user, run });
  const pod = made.metadata?.name ?? '';
  const main = made.spec?.containers[0];
  const variables = Object.fromEntries(
    (main?.env ?? []).filter(({ name }) => name.startsWith('AWS_')).map(({ name, value }) => [name, value ?? '']),
  );
  const folder = join(files.folder, pod);
  const onDisk = await layOutPod(made, folder, { podToken: (options) => stack.order('pod-token', options) });
  // The agent's address on a node does not exist on this machine, and AWS is the stand-in.
  const { environment } = onDisk.container(main?.name ?? '', { replace: { [podIdentityUri]: agentUrl } });
  const here = { AWS_REGION: 'us-west-2', AWS_DEFAULT_REGION: 'us-west-2', AWS_ENDPOINT_URL_STS: stack.awsUrl };
  return {
    user,
    run,
    pod,
    account: made.spec?.serviceAccountName ?? '',
    variables,
    whoAmI: async (more = {}) => (await client()).run({ ...environment, ...here, ...more }),
  };
}

export async function endWorkload({ stack }: System, { pod, run }: Workload): Promise<void> {
  await stack.order('end-workload', { pod, run });
}
