/** Owns the leader's record of one service account with Pod Identity. */

import type { Association, AssociationContent } from '../aws/eks.ts';
import { awsErrorCodes } from '../aws/error.ts';
import { type DriftMemory, newDriftMemory } from '../reconcile/drift.ts';
import { driftStatus, reasonStatus } from '../reconcile/status-form.ts';
import type { PodIdentityMapping } from './mappings.ts';
import type { CredentialsSeen } from './probe.ts';
import { sameSessionPolicy } from './session-policy.ts';
import type { PodIdentityStatus } from './status.ts';

/** Why an account waits, or what a person has to fix. */
export const podIdentityReasonCodes = [
  ...awsErrorCodes,
  'invalid_mapping',
  'name_taken',
  'association_conflict',
  'mutation_conflict',
  'waiting_for_trust_policy',
  'waiting_for_eks',
  'waiting_for_credentials',
  'waiting_for_mutation',
  'waiting_for_pods',
  'contested',
  'kubernetes_unavailable',
  'kubernetes_refused',
] as const;

export type PodIdentityReasonCode = (typeof podIdentityReasonCodes)[number];

export interface PodIdentityReason {
  code: PodIdentityReasonCode;
  detail: string;
  said?: string | undefined;
}

export interface PodIdentityRecord extends DriftMemory {
  readonly account: string;
  user: string;
  state: PodIdentityStatus['state'];
  /** What the mapping says, or said before it was deleted. */
  content: AssociationContent;
  parts: PodIdentityStatus['parts'];
  /** The association as EKS last showed it. */
  association: Omit<Association, 'tags'> | undefined;
  creating: string | undefined;
  trustedBy: Set<string>;
  /** The result of the check that EKS gives new pods credentials, made before they get the account. */
  credentials: CredentialsSeen | undefined;
  /** How many checks in a row found that it does not yet. */
  looks: number;
  /** Whether the user's new pods should get the account, for as long as the mapping says so. */
  isReady: boolean;
  reason: (PodIdentityReason & { at: string }) | undefined;
}

export function contentOf(mapping: PodIdentityMapping): AssociationContent {
  return {
    roleArn: mapping.iam_role_arn,
    targetRoleArn: mapping.target_role_arn,
    sessionTags: !mapping.disable_session_tags,
    policy: mapping.policy,
  };
}

export function contentOfStatus(status: PodIdentityStatus): AssociationContent {
  return {
    roleArn: status.iam_role_arn,
    targetRoleArn: status.target_role_arn,
    sessionTags: status.session_tags,
    policy: status.policy,
  };
}

export function newRecord(account: string, user: string, content: AssociationContent): PodIdentityRecord {
  return {
    account,
    user,
    state: 'pending',
    content,
    parts: { service_account: false, trust_policy: false, association: false, mutation: false },
    association: undefined,
    creating: undefined,
    trustedBy: new Set(),
    credentials: undefined,
    looks: 0,
    isReady: false,
    reason: undefined,
    ...newDriftMemory(),
  };
}

/** Restores the record from the status that the previous leader published. */
export function inheritRecord(status: PodIdentityStatus): PodIdentityRecord {
  const content = contentOfStatus(status);
  const { association } = status;
  return {
    ...newRecord(status.service_account, status.domino_user, content),
    state: status.state,
    parts: status.parts,
    // What else it has besides its role is fetched in the first reconcile.
    association: association && {
      ...content,
      id: association.id,
      serviceAccount: status.service_account,
      roleArn: association.iam_role_arn,
      createdAt: association.created_at,
      externalId: association.external_id,
    },
    creating: status.creating,
    trustedBy: new Set(status.trusted_by),
    credentials: status.credentials,
    // A user who has the account keeps it, also while another part is being repaired.
    isReady: status.parts.mutation && status.state !== 'leaving',
    reason: status.reason as PodIdentityRecord['reason'],
    drift: status.drift,
  };
}

export function statusOfRecord(record: PodIdentityRecord): PodIdentityStatus {
  const { association, reason, content } = record;
  return {
    service_account: record.account,
    domino_user: record.user,
    state: record.state,
    iam_role_arn: content.roleArn,
    ...(content.targetRoleArn === undefined ? {} : { target_role_arn: content.targetRoleArn }),
    session_tags: content.sessionTags,
    ...(content.policy === undefined ? {} : { policy: content.policy }),
    parts: { ...record.parts },
    ...(association
      ? {
          association: {
            id: association.id,
            iam_role_arn: association.roleArn,
            created_at: association.createdAt,
            ...(association.externalId === undefined ? {} : { external_id: association.externalId }),
          },
        }
      : {}),
    ...(record.creating === undefined ? {} : { creating: record.creating }),
    trusted_by: [...record.trustedBy].sort(),
    ...(record.credentials ? { credentials: record.credentials } : {}),
    ...(reason ? { reason: reasonStatus(reason) } : {}),
    ...driftStatus(record),
  };
}

export function sameContent(a: AssociationContent, b: AssociationContent): boolean {
  const isSame = a.roleArn === b.roleArn && a.targetRoleArn === b.targetRoleArn && a.sessionTags === b.sessionTags;
  return isSame && sameSessionPolicy(a.policy, b.policy);
}
