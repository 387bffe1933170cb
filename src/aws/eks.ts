/** Owns the calls to EKS on Pod Identity associations, and the classification of their errors. */
import type * as Sdk from '@aws-sdk/client-eks';
import { type AwsCallOptions, accessDenied, awsWords, guardWrite, measuredCall, throttlingNames } from './call.ts';
import { AwsError, type AwsErrorCode } from './error.ts';
import type { AwsRequestHandler } from './forward-proxy.ts';

/** A Pod Identity association: the role that the pods of one service account get. */
export interface Association {
  id: string;
  serviceAccount: string;
  roleArn: string;
  targetRoleArn: string | undefined;
  sessionTags: boolean;
  /** The session policy, as JSON text: pods may do only what both it and the role allow. */
  policy: string | undefined;
  tags: Readonly<Record<string, string>>;
  /** ISO 8601. */
  createdAt: string;
  /** The `sts:ExternalId` that the target role's trust policy can require, where there is a target role. */
  externalId: string | undefined;
}

/** The part of an association that an update can change: all but the service account. */
export type AssociationContent = Pick<Association, 'roleArn' | 'targetRoleArn' | 'sessionTags' | 'policy'>;

/** An association in a listing, which has neither its role nor its tags. */
export interface AssociationSummary {
  id: string;
  serviceAccount: string;
}

/** All methods may throw AwsError. The IAM actions have the SDK's names, such as `eks:CreatePodIdentityAssociation`. */
export interface Eks {
  /** One page of the associations in the compute namespace, or of one service account there, and the next cursor. */
  list(
    asked: { serviceAccount?: string | undefined; next?: string | undefined },
    signal: AbortSignal,
  ): Promise<{ found: AssociationSummary[]; next: string | undefined }>;
  /** @returns undefined where no association has that id. */
  describe(id: string, signal: AbortSignal): Promise<Association | undefined>;
  /**
   * @param token EKS creates one association for a token, and returns the same one when it is sent again.
   * @param mayWrite called right before the request is sent: false stops it (`not_holder`).
   */
  create(
    serviceAccount: string,
    content: AssociationContent,
    tags: Readonly<Record<string, string>>,
    token: string,
    signal: AbortSignal,
    mayWrite: () => boolean,
  ): Promise<Association>;
  /** Sets all of the content. It cannot remove a target role or a policy, which takes a new association. */
  update(
    id: string,
    serviceAccount: string,
    content: AssociationContent,
    signal: AbortSignal,
    mayWrite: () => boolean,
  ): Promise<Association>;
  /** Succeeds also where the association is gone already. */
  remove(id: string, serviceAccount: string, signal: AbortSignal, mayWrite: () => boolean): Promise<void>;
}

export interface EksOptions extends AwsCallOptions {
  region: string;
  cluster: string;
  namespace: string;
  /** The SDK's own where left out. */
  requestHandler?: AwsRequestHandler | undefined;
}

/** Loads the client library only here, so that installations without Pod Identity do without it. */
export async function createEks(options: EksOptions): Promise<Eks> {
  const sdk = await import('@aws-sdk/client-eks');
  const { cluster: clusterName, namespace, region, requestHandler } = options;
  // One attempt: the leader does the retries, within its rate limit and its lease.
  const client = new sdk.EKSClient({ region, maxAttempts: 1, ...(requestHandler && { requestHandler }) });
  const call = <T>(action: string, about: Subject, send: () => Promise<T>) =>
    measuredCall(options, action, send, (cause) => classify(action, { ...about, clusterName }, cause, options.ownRole));

  return {
    list: ({ serviceAccount, next }, abortSignal) =>
      call('ListPodIdentityAssociations', { serviceAccount }, async () => {
        const input = { clusterName, namespace, serviceAccount, nextToken: next, maxResults: 100 };
        const page = await client.send(new sdk.ListPodIdentityAssociationsCommand(input), { abortSignal });
        const found = (page.associations ?? []).map(({ associationId, serviceAccount: account }) => ({
          id: associationId ?? '',
          serviceAccount: account ?? '',
        }));
        return { found, next: page.nextToken };
      }),
    describe: (associationId, abortSignal) =>
      call('DescribePodIdentityAssociation', {}, async () => {
        const command = new sdk.DescribePodIdentityAssociationCommand({ clusterName, associationId });
        return toAssociation((await client.send(command, { abortSignal })).association);
      }).catch(undefinedWhereGone),
    create: (serviceAccount, content, tags, clientRequestToken, abortSignal, mayWrite) =>
      call('CreatePodIdentityAssociation', { serviceAccount, roleArn: content.roleArn }, async () => {
        const input = { clusterName, namespace, serviceAccount, tags, clientRequestToken, ...inputOf(content) };
        const command = new sdk.CreatePodIdentityAssociationCommand(input);
        guardWrite(command, mayWrite);
        return toAssociation((await client.send(command, { abortSignal })).association);
      }),
    update: (associationId, serviceAccount, content, abortSignal, mayWrite) =>
      call('UpdatePodIdentityAssociation', { serviceAccount, roleArn: content.roleArn }, async () => {
        const input = { clusterName, associationId, ...inputOf(content) };
        const command = new sdk.UpdatePodIdentityAssociationCommand(input);
        guardWrite(command, mayWrite);
        return toAssociation((await client.send(command, { abortSignal })).association);
      }),
    remove: (associationId, serviceAccount, abortSignal, mayWrite) =>
      call('DeletePodIdentityAssociation', { serviceAccount }, async () => {
        const command = new sdk.DeletePodIdentityAssociationCommand({ clusterName, associationId });
        guardWrite(command, mayWrite);
        await client.send(command, { abortSignal });
      }).catch(undefinedWhereGone),
  };
}

function inputOf({ roleArn, targetRoleArn, sessionTags, policy }: AssociationContent) {
  const optional = { ...(targetRoleArn && { targetRoleArn }), ...(policy && { policy }) };
  return { roleArn, ...optional, disableSessionTags: !sessionTags };
}

function toAssociation(given: Sdk.PodIdentityAssociation | undefined): Association {
  const { associationId: id, serviceAccount, roleArn } = given ?? {};
  if (!id || !serviceAccount || !roleArn) throw new AwsError('unavailable', 'EKS did not say what the association is');
  return {
    id,
    serviceAccount,
    roleArn,
    targetRoleArn: given?.targetRoleArn || undefined,
    sessionTags: given?.disableSessionTags !== true,
    policy: given?.policy || undefined,
    tags: given?.tags ?? {},
    createdAt: (given?.createdAt ?? new Date(0)).toISOString(),
    externalId: given?.externalId || undefined,
  };
}

function undefinedWhereGone(error: unknown): undefined {
  if (error instanceof AwsError && error.code === 'association_not_found') return undefined;
  throw error;
}

interface Subject {
  serviceAccount?: string | undefined;
  roleArn?: string;
  clusterName?: string;
}

/** https://docs.aws.amazon.com/eks/latest/APIReference/API_CreatePodIdentityAssociation.html#API_CreatePodIdentityAssociation_Errors */
const codeOfEksError: Readonly<Record<string, AwsErrorCode>> = {
  ResourceInUse: 'association_exists',
  ResourceLimitExceeded: 'association_quota',
  InvalidParameter: 'association_refused',
  InvalidRequest: 'association_refused',
  ResourceNotFound: 'association_not_found',
  AccessDenied: 'access_denied',
  ...throttlingNames,
};

function classify(action: string, about: Subject, cause: unknown, ownRole: string | undefined): AwsError {
  const { name, message } = awsWords(cause);
  const code = preciseCode(codeOfEksError[name] ?? 'unavailable', message);
  const said = code === 'unavailable' ? undefined : message.slice(0, 300);
  const { clusterName, serviceAccount } = about;
  const on =
    serviceAccount === undefined
      ? `cluster ${clusterName}`
      : `service account ${serviceAccount} of cluster ${clusterName}`;
  const words =
    code === 'access_denied' ? accessDenied(`eks:${action}`, message, on, ownRole) : sentence(code, action, about);
  return new AwsError(code, words, { cause, said });
}

/** EKS has one error name for several problems with different remedies: the message tells them apart. */
function preciseCode(code: AwsErrorCode, message: string): AwsErrorCode {
  if (code === 'access_denied' && /iam:PassRole/.test(message)) return 'pass_role_denied';
  if (code === 'association_not_found' && /cluster/i.test(message) && !/association/i.test(message)) {
    return 'cluster_not_found';
  }
  if (code !== 'association_refused') return code;
  if (/trust/i.test(message)) return 'malformed_trust_policy';
  if (/role/i.test(message) && /not.*(exist|found)|no such|cannot be found/i.test(message)) return 'role_not_found';
  return code;
}

/** The error in words, for the user of the service account and for administrators. */
function sentence(code: AwsErrorCode, action: string, about: Subject): string {
  const { serviceAccount = 'that was asked for', roleArn = 'the role', clusterName } = about;
  switch (code) {
    case 'association_exists':
      return `service account ${serviceAccount} has a Pod Identity association already`;
    case 'association_quota':
      return `cluster ${clusterName} has as many Pod Identity associations as AWS allows`;
    case 'association_refused':
      return `EKS does not accept the Pod Identity association of ${serviceAccount}`;
    case 'association_not_found':
      return 'there is no such Pod Identity association';
    case 'cluster_not_found':
      return `AWS knows no EKS cluster ${clusterName} in this account and region`;
    case 'malformed_trust_policy':
      return `EKS does not accept the trust policy of ${roleArn}`;
    case 'role_not_found':
      return `no IAM role ${roleArn}`;
    case 'pass_role_denied':
      return `irsa-svc is not allowed to do iam:PassRole on ${roleArn}`;
    case 'throttled':
      return `EKS throttles ${action}`;
    default:
      return `${action} had no good answer`;
  }
}
