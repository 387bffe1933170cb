/** Owns the EKS actions of the AWS stand-in: Pod Identity associations, with EKS's own refusals. */

import {
  flag,
  invalid,
  pageToken,
  ROLE_ARN,
  readPageToken,
  sessionPolicyOf,
  tagsOf,
  targetOf,
  text,
} from './aws-eks-parameters.ts';
import type { Association, AssociationChange, Cluster, EksStore } from './aws-eks-store.ts';
import type { Principal } from './aws-keys.ts';
import type { AwsKnobs } from './aws-knobs.ts';
import type { RoleStore } from './aws-roles.ts';
import { namesService } from './aws-trust.ts';
import { AwsError } from './aws-xml.ts';

export const POD_IDENTITY_SERVICE = 'pods.eks.amazonaws.com';

export interface EksWorld {
  readonly knobs: AwsKnobs;
  readonly roles: RoleStore;
  readonly eks: EksStore;
  readonly tokens: RequestTokens;
}

/** The associations that were made with a client's request token, deleted ones too. */
export type RequestTokens = Map<string, { readonly parameters: string; readonly associationId: string }>;

export interface EksCall {
  readonly caller: Principal;
  readonly cluster: string;
  readonly associationId: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
}

type EksAction = (world: EksWorld, call: EksCall) => Record<string, unknown>;

export const EKS_ACTIONS: Readonly<Record<string, EksAction>> = {
  CreatePodIdentityAssociation: (world, call) => {
    const cluster = clusterOf(world, call);
    const { body } = call;
    const disableSessionTags = flag(body, 'disableSessionTags') ?? false;
    const policy = sessionPolicyOf(body, disableSessionTags);
    const wanted = {
      namespace: text(body, 'namespace'),
      serviceAccount: text(body, 'serviceAccount'),
      roleArn: text(body, 'roleArn'),
      targetRoleArn: targetOf(body) ?? '',
      disableSessionTags,
      ...(policy === undefined ? {} : { policy }),
      tags: tagsOf(body),
    };
    checkPassRole(world, call, wanted.roleArn);
    const token = body.clientRequestToken === undefined ? undefined : text(body, 'clientRequestToken');
    const tokenKey = `${cluster.arn} ${token}`;
    const parameters = JSON.stringify({ ...wanted, tags: Object.entries(wanted.tags).sort() });
    const before = token === undefined ? undefined : world.tokens.get(tokenKey);
    if (before) return { association: wire(madeBefore(world, cluster, before, parameters)) };
    checkRole(world, cluster, wanted.roleArn);
    const taken = world.eks.ofSubject(cluster, wanted.namespace, wanted.serviceAccount);
    if (taken) throw new AwsError('ResourceInUseException', `Association already exists: ${taken.associationId}`);
    const quota = world.knobs.associationQuota;
    if (world.eks.count(cluster) >= quota) {
      throw new AwsError(
        'ResourceLimitExceededException',
        `Cannot create more than ${quota} pod identity associations in cluster ${cluster.name}.`,
      );
    }
    const association = world.eks.add(cluster, wanted, 'call');
    if (token !== undefined) world.tokens.set(tokenKey, { parameters, associationId: association.associationId });
    return { association: wire(association) };
  },

  ListPodIdentityAssociations: (world, call) => {
    const cluster = clusterOf(world, call);
    const { query } = call;
    const size = Number(query.get('maxResults') ?? 100);
    if (!Number.isInteger(size) || size < 1 || size > 100) {
      throw invalid(`maxResults must be between 1 and 100, not ${query.get('maxResults')}`);
    }
    const after = readPageToken(query.get('nextToken'));
    const left = world.eks
      .inCluster(cluster)
      .filter(
        ({ namespace, serviceAccount, associationId }) =>
          namespace === (query.get('namespace') ?? namespace) &&
          serviceAccount === (query.get('serviceAccount') ?? serviceAccount) &&
          associationId > after,
      );
    const page = left.slice(0, size);
    const nextToken = left.length > size ? pageToken(page.at(-1)?.associationId ?? '') : undefined;
    return { associations: page.map(summary), ...(nextToken === undefined ? {} : { nextToken }) };
  },

  DescribePodIdentityAssociation: (world, call) => ({ association: wire(associationOf(world, call)) }),

  UpdatePodIdentityAssociation: (world, call) => {
    const cluster = clusterOf(world, call);
    const association = associationOf(world, call);
    const { body } = call;
    const [targetRoleArn, disableSessionTags] = [targetOf(body), flag(body, 'disableSessionTags')];
    const tagsOff = disableSessionTags ?? association.disableSessionTags;
    const policy = sessionPolicyOf(body, tagsOff);
    if (policy === undefined && association.policy !== undefined && !tagsOff) {
      throw invalid('Session tags cannot be enabled on an association with a policy.');
    }
    const change: AssociationChange = {
      ...(body.roleArn === undefined ? {} : { roleArn: text(body, 'roleArn') }),
      ...(targetRoleArn === undefined ? {} : { targetRoleArn }),
      ...(disableSessionTags === undefined ? {} : { disableSessionTags }),
      ...(policy === undefined ? {} : { policy }),
    };
    if (Object.keys(change).length === 0) {
      throw invalid('At least one of roleArn, targetRoleArn, disableSessionTags and policy must be changed.');
    }
    if (change.roleArn !== undefined) {
      checkPassRole(world, call, change.roleArn);
      checkRole(world, cluster, change.roleArn);
    }
    return { association: wire(world.eks.change(association, change, 'call')) };
  },

  DeletePodIdentityAssociation: (world, call) => {
    const association = associationOf(world, call);
    world.eks.remove(association, 'call');
    return { association: wire(association) };
  },
};

export function clusterOf({ eks }: Pick<EksWorld, 'eks'>, call: Pick<EksCall, 'caller' | 'cluster'>): Cluster {
  const cluster = eks.cluster(call.caller.account, call.cluster);
  if (!cluster) throw new AwsError('ResourceNotFoundException', `No cluster found for name: ${call.cluster}.`);
  return cluster;
}

function associationOf(world: EksWorld, call: EksCall): Association {
  const association = world.eks.find(clusterOf(world, call), call.associationId);
  if (association) return association;
  throw new AwsError('ResourceNotFoundException', `No association found for ID: ${call.associationId}.`);
}

/**
 * AWS's reference says only that the token makes the request idempotent. A mismatch is a wrong parameter here, as in AWS's
 * other services (IdempotentParameterMismatch). A token stays used up after its association is deleted. This strict reading
 * finds clients that derive the token only from the account's name, which could then never make the association again.
 */
function madeBefore(
  world: EksWorld,
  cluster: Cluster,
  before: { parameters: string; associationId: string },
  parameters: string,
): Association {
  if (before.parameters !== parameters) {
    throw invalid('The clientRequestToken was used before with other parameters.');
  }
  const association = world.eks.find(cluster, before.associationId);
  if (association) return association;
  throw new AwsError(
    'InvalidRequestException',
    `The clientRequestToken was used for association ${before.associationId}, which has been deleted.`,
  );
}

function checkPassRole({ knobs }: EksWorld, { caller }: EksCall, roleArn: string): void {
  if (!knobs.passRoleDenied.includes(roleArn)) return;
  throw new AwsError(
    'AccessDeniedException',
    `User: ${caller.arn} is not authorized to perform: iam:PassRole on resource: ${roleArn} because no identity-based policy allows the iam:PassRole action`,
  );
}

/** EKS sees IAM's changes as late as STS does: it does not see a role or a trust statement that is too new. */
function checkRole({ knobs, roles }: EksWorld, cluster: Cluster, roleArn: string): void {
  if (!ROLE_ARN.test(roleArn)) throw invalid(`The role ARN ${roleArn} is invalid.`);
  if (roleArn.split(':')[4] !== cluster.account) throw invalid('Cross-account pass role is not allowed.');
  const role = roles.findArn(roleArn);
  const seen = role && roles.seen(role, knobs.propagationMs);
  if (!seen) throw invalid('Role provided in the request does not exist.');
  if (!knobs.checkPodIdentityTrust) return;
  if (
    !['sts:AssumeRole', 'sts:TagSession'].every((action) => namesService(seen.document, POD_IDENTITY_SERVICE, action))
  ) {
    throw invalid(
      'Trust policy of the role provided is invalid. Follow the official documentation to resolve the issue.',
    );
  }
}

/** Leaves the account's id out. Times are seconds since the epoch, with fractions, as in the AWS REST-JSON protocol. */
function wire({ account: _account, ...association }: Association): Record<string, unknown> {
  const { createdAt, modifiedAt } = association;
  return { ...association, createdAt: createdAt / 1000, modifiedAt: modifiedAt / 1000 };
}

function summary(association: Association): Record<string, unknown> {
  const { clusterName, namespace, serviceAccount, associationArn, associationId, ownerArn } = association;
  return { clusterName, namespace, serviceAccount, associationArn, associationId, ownerArn };
}
