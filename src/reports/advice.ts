/** Owns the advice of the reports: for each code one sentence that says what to do, also in docs/reasons.md. Pure. */
import type { PodIdentityReasonCode } from '../pod-identity/record.ts';

const soon = 'Nothing: it is under way. Look again in a few seconds.';

/** For a user, about a role: the codes of `/my_access`, with those of the leader's refusals. Clients match on the code. */
export const accessAdvice = {
  granted: 'Nothing: the profile of this role in the AWS config file works, some seconds after IAM accepted it.',
  ready: 'Nothing: a run that asks gets it. Add run_id to this request to see the state of one of your runs.',
  in_another_proxy: 'Nothing: the profile in the AWS config file names that proxy role.',
  partly_granted: 'Ask again in a few seconds; if it stays so, the proxy role has no capacity for the other accounts.',
  pending: 'Ask again in a few seconds; if it stays so for minutes, tell an administrator.',
  not_checked_yet: 'Ask again in a few seconds; if it stays so for minutes, tell an administrator.',
  not_requested:
    'Let the run ask for its roles: the sidecar does so at its start, and POST /map_iam_roles_to_pod_sa at any time.',
  refresh_needed:
    'Let the run ask again: the sidecar does so every few minutes, and POST /map_iam_roles_to_pod_sa at once.',
  not_a_member: 'Ask an owner of the organization in Domino to add you, if you should have the role.',
  mapping_gone: 'Ask an administrator whether the role was removed on purpose.',
  invalid_mapping: 'Tell an administrator: the mapping has to be set again.',
  organization_id_mismatch:
    'Tell an administrator, who can see which organization is mapped and accept yours with POST /accept_organization.',
  kept_elsewhere: 'If AWS refuses the role, ask the owner of the proxy role’s trust policy to let this run in.',
  run_revoked: 'Ask an administrator to allow the run again, or start another run.',
  shared_service_account: 'Ask an administrator for a service account of your own, or wait until the other pods ended.',
  trust_policy_full: 'Wait until another run ends, or ask an administrator for another proxy role or a higher quota.',
  audience_missing:
    'Tell an administrator: the OIDC provider in IAM has to list the audience of the role, and the reason has the command.',
  needs_role_tokens: 'Use a current sidecar, or ask with role_tokens: true and fetch the token with POST /role_tokens.',
  role_not_found: 'Tell an administrator: the proxy role has to be created, or the mapping to name another one.',
  malformed_trust_policy: 'Tell an administrator: the trust policy of the proxy role has to be fixed by hand.',
  unmodifiable_role:
    'Tell an administrator: AWS does not allow changes to this role, so the mapping has to name another one.',
  access_denied: 'Tell an administrator: this service lacks the permission in AWS to keep the trust policy.',
} as const;

type PodIdentityCode =
  | PodIdentityReasonCode
  | 'user_id_mismatch'
  | 'not_checked_yet'
  | 'mutations_unknown'
  | 'in_place'
  | 'restart'
  | 'leaving';

/** For an administrator, about a Pod Identity. */
export const podIdentityAdvice: Record<PodIdentityCode, string> = {
  in_place: 'Nothing: new workloads get the role as their default AWS credentials.',
  restart: 'Restart the workloads that are listed: they began before the role was there, and do not get it.',
  leaving: 'Nothing: it is being removed.',
  not_checked_yet: soon,
  mutations_unknown:
    'Nothing for some seconds. If it lasts: is domsed installed, and may the service see Mutations in the platform namespace?',
  throttled: soon,
  unavailable: soon,
  not_holder: soon,
  waiting_for_trust_policy: soon,
  waiting_for_eks: soon,
  waiting_for_credentials:
    'Nothing for some seconds. If it lasts: does EKS’s webhook answer, and is EKS_CLUSTER_NAME this cluster’s?',
  waiting_for_mutation:
    'Nothing for some seconds. If it lasts: may the service write Mutations in the platform namespace?',
  waiting_for_pods: 'End the workloads that use the service account; it is deleted after the last of them.',
  contested: 'Find out what else changes it, a pipeline or a person, and stop that.',
  kubernetes_unavailable: 'Nothing for some seconds. If it lasts: look at the log for what the API server says.',
  kubernetes_refused:
    'Have the policy or quota of the cluster changed that refuses it: `said` has what Kubernetes says.',
  role_not_found: 'Create the role under that ARN, or fix the mapping.',
  malformed_trust_policy: 'Fix the role’s trust policy: it names a principal that was deleted, or EKS cannot use it.',
  unmodifiable_role: 'Use another role: AWS owns this one.',
  trust_policy_full: 'Use a role of its own for some of the users, or have the quota of the trust policy raised.',
  trust_policy_open:
    'Remove the named statement from the role’s trust policy, or give it conditions: it lets in every association of the AWS account. The role’s users have it meanwhile.',
  trust_policy_stricter:
    'Let the role’s owner add this service account to the trust policy and map with update_iam_role_trust_policy false, or remove the named conditions.',
  access_denied: 'Give the service’s role the permissions of the documentation for Pod Identity.',
  pass_role_denied: 'Allow the service’s role iam:PassRole on this role, for pods.eks.amazonaws.com.',
  association_exists: soon,
  association_conflict: 'Delete the association that another tool made, or name another service_account.',
  mutation_conflict:
    'Use Pod Identity in one installation only: unset EKS_CLUSTER_NAME in this one, or delete the other one’s mappings.',
  association_quota: 'Delete unused associations: AWS allows 5,000 in a cluster.',
  association_refused: 'Look at what EKS says in the service’s log, and fix the mapping.',
  association_not_found: soon,
  cluster_not_found: 'Set EKS_CLUSTER_NAME and AWS_REGION to this cluster’s.',
  user_id_mismatch:
    'Find out who has the name now. To give them the role, set the mapping with their domino_user_id; else delete it.',
  invalid_mapping: 'Set the mapping again: what is stored cannot be read. What the user has stays until then.',
  name_taken: 'Name another service_account, or end the workloads of others that use this one.',
};

const tables = {
  access: {
    codes: accessAdvice,
    other: 'Tell an administrator, who finds the details in the status of the proxy role.',
  },
  pod_identity: { codes: podIdentityAdvice, other: 'Look at the service’s log.' },
} as const;

/** @returns what to do, also for a code that the table does not have. */
export function adviceFor(about: keyof typeof tables, code: string): string {
  const { codes, other } = tables[about];
  return Object.hasOwn(codes, code) ? ((codes as Readonly<Record<string, string>>)[code] ?? other) : other;
}
