/** Owns the calls to IAM and STS, and what their errors mean for us. */
import { GetRoleCommand, IAMClient, UpdateAssumeRolePolicyCommand } from '@aws-sdk/client-iam';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { parseRoleArn } from './arn.ts';

/**
 * What went wrong. Worth another try by itself: throttled, unavailable (nobody knows whether a write took). For a person
 * to mend: the others, named as they are published.
 */
export type IamErrorCode =
  | 'throttled'
  | 'unavailable'
  | 'not_holder'
  | 'role_not_found'
  | 'malformed_trust_policy'
  | 'unmodifiable_role'
  | 'trust_policy_full'
  | 'access_denied';

/** `message` may be shown to users; what IAM said itself, which can name other principals, is in `said`. */
export class IamError extends Error {
  readonly code: IamErrorCode;
  readonly said: string | undefined;
  /** Whether another try may go better with nobody doing anything. */
  readonly transient: boolean;
  /** The quota in characters, where IAM named it. */
  readonly quota: number | undefined;

  constructor(code: IamErrorCode, message: string, options: IamErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = 'IamError';
    this.code = code;
    this.transient = code === 'throttled' || code === 'unavailable' || code === 'not_holder';
    this.quota = options.quota;
    this.said = options.said;
  }
}

interface IamErrorOptions {
  quota?: number | undefined;
  said?: string | undefined;
  cause?: unknown;
}

export interface AwsIdentity {
  /** Twelve digits. */
  account: string;
  /** `aws`, `aws-us-gov`, … */
  partition: string;
  arn: string;
}

export interface Iam {
  /** The role's trust policy as JSON text. @throws IamError */
  getTrustPolicy(roleArn: string, signal: AbortSignal): Promise<string>;
  /**
   * Replaces the role's trust policy.
   * @param mayWrite asked once more when the request is signed and about to go out: false stops it (`not_holder`).
   * @throws IamError
   */
  updateTrustPolicy(roleArn: string, document: string, signal: AbortSignal, mayWrite: () => boolean): Promise<void>;
  /** Who we are, as STS says. @throws IamError */
  identity(signal: AbortSignal): Promise<AwsIdentity>;
}

export type IamAction = 'GetRole' | 'UpdateAssumeRolePolicy' | 'GetCallerIdentity';

export interface IamOptions {
  region: string;
  /** Told of each call: its action, `ok` or the error's code, and the seconds it took. */
  onCall: (action: IamAction, outcome: string, seconds: number) => void;
  /** Monotonic milliseconds. */
  monotonic: () => number;
}

export function createIam(options: IamOptions): Iam {
  // One attempt: the writer retries itself, within its budget and its lease, and with a document made anew. The SDK
  // would also retry LimitExceeded, whose name it takes for throttling.
  const iam = new IAMClient({ region: options.region, maxAttempts: 1 });
  const sts = new STSClient({ region: options.region, maxAttempts: 2 });

  async function measured<T>(action: IamAction, role: string, call: () => Promise<T>): Promise<T> {
    const start = options.monotonic();
    let outcome = 'ok';
    try {
      return await call();
    } catch (cause) {
      const error = classify(action, role, cause);
      outcome = error.code;
      throw error;
    } finally {
      options.onCall(action, outcome, (options.monotonic() - start) / 1000);
    }
  }

  return {
    getTrustPolicy: (roleArn, abortSignal) =>
      measured('GetRole', roleArn, async () => {
        const { Role: role } = await iam.send(new GetRoleCommand({ RoleName: roleNameOf(roleArn) }), { abortSignal });
        if (role?.Arn !== roleArn) {
          // Same name, another path: the ARN in the mapping names no role.
          throw new IamError('role_not_found', missing(roleArn), { said: `the role of that name is ${role?.Arn}` });
        }
        // IAM gives the document URL-encoded (RFC 3986), and the SDK leaves it so.
        return decodeURIComponent(role.AssumeRolePolicyDocument ?? '');
      }),
    updateTrustPolicy: (roleArn, document, abortSignal, mayWrite) =>
      measured('UpdateAssumeRolePolicy', roleArn, async () => {
        const input = { RoleName: roleNameOf(roleArn), PolicyDocument: document };
        const command = new UpdateAssumeRolePolicyCommand(input);
        command.middlewareStack.add(
          (next) => async (args) => {
            if (!mayWrite()) throw new IamError('not_holder', 'the lease ran out before the write');
            return next(args);
          },
          { step: 'finalizeRequest', priority: 'low', name: 'irsaLeaseGuard' },
        );
        await iam.send(command, { abortSignal });
      }),
    identity: (abortSignal) =>
      measured('GetCallerIdentity', '', async () => {
        const { Account: account, Arn: arn } = await sts.send(new GetCallerIdentityCommand({}), { abortSignal });
        const partition = arn?.split(':')[1];
        if (!account || !arn || !partition) throw new IamError('unavailable', 'STS did not say who we are');
        return { account, arn, partition };
      }),
  };
}

function roleNameOf(roleArn: string): string {
  const role = parseRoleArn(roleArn);
  if (!role) throw new IamError('role_not_found', 'not the ARN of an IAM role');
  return role.name;
}

/** https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAssumeRolePolicy.html#API_UpdateAssumeRolePolicy_Errors */
const codeOfAwsError: Record<string, IamErrorCode> = {
  NoSuchEntity: 'role_not_found',
  MalformedPolicyDocument: 'malformed_trust_policy',
  InvalidInput: 'malformed_trust_policy',
  LimitExceeded: 'trust_policy_full',
  UnmodifiableEntity: 'unmodifiable_role',
  AccessDenied: 'access_denied',
  Throttling: 'throttled',
  ThrottlingException: 'throttled',
  RequestLimitExceeded: 'throttled',
  TooManyRequestsException: 'throttled',
};

function classify(action: IamAction, roleArn: string, cause: unknown): IamError {
  if (cause instanceof IamError) return cause;
  const { Code, name, message } = cause as { Code?: string; name?: string; message?: string };
  const awsCode = (Code ?? name ?? '').replace(/Exception$/, '');
  const code = codeOfAwsError[awsCode] ?? 'unavailable';
  const quota = /ACLSizePerRole:?\s*(\d+)/.exec(message ?? '')?.[1];
  return new IamError(code, sentence(code, action, roleArn), {
    cause,
    said: code === 'unavailable' ? undefined : (message ?? awsCode).slice(0, 300),
    quota: quota === undefined ? undefined : Number(quota),
  });
}

function missing(roleArn: string): string {
  const role = parseRoleArn(roleArn);
  return `no IAM role ${role?.pathAndName} in account ${role?.account}`;
}

/** What is wrong, for whoever started the run and for their administrator. */
function sentence(code: IamErrorCode, action: IamAction, roleArn: string): string {
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
    case 'access_denied':
      return `irsa-svc is not allowed to do ${action} on proxy role ${name}`;
    case 'throttled':
      return `IAM throttles ${action}`;
    default:
      return `${action} had no good answer`;
  }
}
