/** Owns the calls to IAM and STS, and the classification of their errors. */
import {
  GetOpenIDConnectProviderCommand,
  GetRoleCommand,
  IAMClient,
  UpdateAssumeRolePolicyCommand,
} from '@aws-sdk/client-iam';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { parseRoleArn } from '../lib/arn.ts';
import { type AwsCallOptions, accessDenied, awsWords, guardWrite, measuredCall, throttlingNames } from './call.ts';
import { AwsError, type AwsErrorCode } from './error.ts';
import type { AwsRequestHandler } from './forward-proxy.ts';

export interface AwsIdentity {
  /** Twelve digits. */
  account: string;
  /** `aws`, `aws-us-gov`, … */
  partition: string;
  arn: string;
}

export interface Iam {
  /** The role's trust policy as JSON text. @throws AwsError */
  getTrustPolicy(roleArn: string, signal: AbortSignal): Promise<string>;
  /**
   * Replaces the role's trust policy.
   * @param mayWrite called when the request is signed, right before it is sent: false stops it (`not_holder`).
   * @throws AwsError
   */
  updateTrustPolicy(roleArn: string, document: string, signal: AbortSignal, mayWrite: () => boolean): Promise<void>;
  /** The audiences of an OIDC provider; empty where IAM has no such provider. @throws AwsError */
  clientIdsOf(providerArn: string, signal: AbortSignal): Promise<readonly string[]>;
  /** The service's own identity, from STS. @throws AwsError */
  identity(signal: AbortSignal): Promise<AwsIdentity>;
}

export type IamAction = 'GetRole' | 'UpdateAssumeRolePolicy' | 'GetOpenIDConnectProvider' | 'GetCallerIdentity';

export interface IamOptions extends AwsCallOptions {
  region: string;
  /** The SDK's own where left out. */
  requestHandler?: AwsRequestHandler | undefined;
}

export function createIam(options: IamOptions): Iam {
  // One attempt: the leader does the retries, within its rate limit and its lease, with a newly made document. The SDK
  // would also retry LimitExceeded, which it takes for throttling.
  const { region, requestHandler } = options;
  const transport = requestHandler && { requestHandler };
  const iam = new IAMClient({ region, maxAttempts: 1, ...transport });
  const sts = new STSClient({ region, maxAttempts: 2, ...transport });

  const measured = <T>(action: IamAction, role: string, call: () => Promise<T>) =>
    measuredCall(options, action, call, (cause) => classify(action, role, cause, options.ownRole));

  return {
    getTrustPolicy: (roleArn, abortSignal) =>
      measured('GetRole', roleArn, async () => {
        const { Role: role } = await iam.send(new GetRoleCommand({ RoleName: roleNameOf(roleArn) }), { abortSignal });
        if (role?.Arn !== roleArn) {
          // The role of that name has another path, so the ARN in the mapping names no role.
          throw new AwsError('role_not_found', missing(roleArn), { said: `the role of that name is ${role?.Arn}` });
        }
        // IAM returns the document URL-encoded (RFC 3986), and the SDK does not decode it.
        return decodeURIComponent(role.AssumeRolePolicyDocument ?? '');
      }),
    updateTrustPolicy: (roleArn, document, abortSignal, mayWrite) =>
      measured('UpdateAssumeRolePolicy', roleArn, async () => {
        const input = { RoleName: roleNameOf(roleArn), PolicyDocument: document };
        const command = new UpdateAssumeRolePolicyCommand(input);
        guardWrite(command, mayWrite);
        await iam.send(command, { abortSignal });
      }),
    clientIdsOf: (providerArn, abortSignal) =>
      measured('GetOpenIDConnectProvider', '', async () => {
        const command = new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn: providerArn });
        const found = await iam.send(command, { abortSignal }).catch((cause: unknown) => {
          if (awsWords(cause).name === 'NoSuchEntity') return undefined;
          throw cause;
        });
        return found?.ClientIDList ?? [];
      }),
    identity: (abortSignal) =>
      measured('GetCallerIdentity', '', async () => {
        const { Account: account, Arn: arn } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal });
        const partition = arn?.split(':')[1];
        if (!account || !arn || !partition) throw new AwsError('unavailable', 'STS did not say who we are');
        return { account, arn, partition };
      }),
  };
}

function roleNameOf(roleArn: string): string {
  const role = parseRoleArn(roleArn);
  if (!role) throw new AwsError('role_not_found', 'not the ARN of an IAM role');
  return role.name;
}

/** https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAssumeRolePolicy.html#API_UpdateAssumeRolePolicy_Errors */
const codeOfAwsError: Record<string, AwsErrorCode> = {
  NoSuchEntity: 'role_not_found',
  MalformedPolicyDocument: 'malformed_trust_policy',
  InvalidInput: 'malformed_trust_policy',
  LimitExceeded: 'trust_policy_full',
  UnmodifiableEntity: 'unmodifiable_role',
  AccessDenied: 'access_denied',
  ...throttlingNames,
};

function classify(action: IamAction, roleArn: string, cause: unknown, ownRole: string | undefined): AwsError {
  const { name, message } = awsWords(cause);
  const code = codeOfAwsError[name] ?? 'unavailable';
  const quota = /ACLSizePerRole:?\s*(\d+)/.exec(message)?.[1];
  const denied = code === 'access_denied' ? deniedSentence(action, roleArn, message, ownRole) : undefined;
  return new AwsError(code, denied ?? sentence(code, action, roleArn), {
    cause,
    said: code === 'unavailable' ? undefined : message.slice(0, 300),
    quota: quota === undefined ? undefined : Number(quota),
  });
}

/** @param roleArn empty where the call is not about a role. */
function deniedSentence(action: IamAction, roleArn: string, message: string, ownRole: string | undefined): string {
  const name = parseRoleArn(roleArn)?.pathAndName ?? roleArn;
  const service = action === 'GetCallerIdentity' ? 'sts' : 'iam';
  return accessDenied(`${service}:${action}`, message, name === '' ? undefined : `role ${name}`, ownRole);
}

function missing(roleArn: string): string {
  const role = parseRoleArn(roleArn);
  return `no IAM role ${role?.pathAndName} in account ${role?.account}`;
}

/** The error in words, for the user who started the run and for administrators. */
function sentence(code: AwsErrorCode, action: IamAction, roleArn: string): string {
  const name = parseRoleArn(roleArn)?.pathAndName ?? roleArn;
  switch (code) {
    case 'role_not_found':
      return missing(roleArn);
    case 'malformed_trust_policy':
      return `IAM does not accept the trust policy of proxy role ${name}, most often for a principal that was deleted`;
    case 'unmodifiable_role':
      return `proxy role ${name} belongs to an AWS service and cannot be changed`;
    case 'trust_policy_full':
      return `the trust policy of proxy role ${name} has no room for another run`;
    case 'throttled':
      return `${action === 'GetCallerIdentity' ? 'STS' : 'IAM'} throttles ${action}`;
    default:
      return `${action} had no good answer`;
  }
}
