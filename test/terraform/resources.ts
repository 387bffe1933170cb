/** Owns the resources of the provider's stand-in: each made, read, changed and removed by calls to AWS. */
import * as eks from '@aws-sdk/client-eks';
import * as iam from '@aws-sdk/client-iam';
import type { AwsStandIn } from '../stack/aws.ts';
import type { Attributes } from './wire.ts';

export interface Account {
  readonly id: string;
  readonly partition: string;
  readonly iam: iam.IAMClient;
  readonly eks: eks.EKSClient;
}

export interface Resource {
  create(account: Account, planned: Attributes): Promise<Attributes>;
  /** @returns null where it is gone. */
  read(account: Account, state: Attributes): Promise<Attributes | null>;
  update(account: Account, prior: Attributes, planned: Attributes): Promise<Attributes>;
  remove(account: Account, state: Attributes): Promise<void>;
}

export function accountOf(aws: AwsStandIn, id: string): Account {
  const key = aws.userCredentials(id, 'terraform');
  const options = {
    region: 'us-west-2',
    endpoint: aws.url,
    maxAttempts: 1,
    credentials: { accessKeyId: key.AWS_ACCESS_KEY_ID ?? '', secretAccessKey: key.AWS_SECRET_ACCESS_KEY ?? '' },
  };
  return { id, partition: 'aws', iam: new iam.IAMClient(options), eks: new eks.EKSClient(options) };
}

const role: Resource = {
  async create({ iam: client }, planned) {
    const { Role: made } = await client.send(
      new iam.CreateRoleCommand({
        RoleName: String(planned.name),
        Path: String(planned.path ?? '/'),
        AssumeRolePolicyDocument: String(planned.assume_role_policy),
      }),
    );
    const created = made?.CreateDate?.toISOString() ?? '';
    return {
      ...planned,
      arn: made?.Arn ?? '',
      id: planned.name ?? '',
      unique_id: made?.RoleId ?? '',
      create_date: created,
    };
  },
  async read({ iam: client }, state) {
    try {
      const { Role: found } = await client.send(new iam.GetRoleCommand({ RoleName: String(state.name) }));
      return { ...state, assume_role_policy: decodeURIComponent(found?.AssumeRolePolicyDocument ?? '') };
    } catch (error) {
      if (error instanceof iam.NoSuchEntityException) return null;
      throw error;
    }
  },
  async update({ iam: client }, prior, planned) {
    if (prior.assume_role_policy !== planned.assume_role_policy) {
      const PolicyDocument = String(planned.assume_role_policy);
      await client.send(new iam.UpdateAssumeRolePolicyCommand({ RoleName: String(prior.name), PolicyDocument }));
    }
    return planned;
  },
  async remove({ iam: client }, { name }) {
    await client.send(new iam.DeleteRoleCommand({ RoleName: String(name) }));
  },
};

const rolePolicy: Resource = {
  async create({ iam: client }, planned) {
    const names = { RoleName: String(planned.role), PolicyName: String(planned.name) };
    await client.send(new iam.PutRolePolicyCommand({ ...names, PolicyDocument: String(planned.policy) }));
    return { ...planned, id: [planned.role, planned.name].map(String).join(':') };
  },
  read: async (_account, state) => state,
  update: (account, _prior, planned) => rolePolicy.create(account, planned),
  remove: async () => undefined,
};

/** The stack's AWS has no managed policies: what is attached is only remembered. */
const attachment: Resource = {
  create: async (_account, planned) => ({ ...planned, id: [planned.role, planned.policy_arn].map(String).join('-') }),
  read: async (_account, state) => state,
  update: async (_account, _prior, planned) => planned,
  remove: async () => undefined,
};

const association: Resource = {
  async create({ eks: client }, planned) {
    const { association: made } = await client.send(
      new eks.CreatePodIdentityAssociationCommand({
        clusterName: String(planned.cluster_name),
        namespace: String(planned.namespace),
        serviceAccount: String(planned.service_account),
        roleArn: String(planned.role_arn),
      }),
    );
    const id = made?.associationId ?? '';
    return { ...planned, id, association_id: id, association_arn: made?.associationArn ?? '' };
  },
  read: async (_account, state) => state,
  update: async (_account, _prior, planned) => planned,
  async remove({ eks: client }, state) {
    const names = { clusterName: String(state.cluster_name), associationId: String(state.association_id) };
    await client.send(new eks.DeletePodIdentityAssociationCommand(names));
  },
};

export const resources: Readonly<Record<string, Resource>> = {
  aws_iam_role: role,
  aws_iam_role_policy: rolePolicy,
  aws_iam_role_policy_attachment: attachment,
  aws_eks_pod_identity_association: association,
};
