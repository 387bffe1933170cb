/** Owns what can be done about a Pod Identity that is not in place, by the code of the reason. Pure. */
import type { PodIdentityReasonCode } from './pod-identity-record.ts';

type Told = PodIdentityReasonCode | 'not_checked_yet' | 'mutations_unknown' | 'in_place' | 'restart' | 'leaving';

const soon = 'Nothing: it is under way. Look again in a few seconds.';

const advice: Record<Told, string> = {
  in_place: 'Nothing: new workloads get the role as their default AWS credentials.',
  restart: 'Restart the workloads that are listed: they began before the role was there, and do not get it.',
  leaving: 'Nothing: it is being taken away.',
  not_checked_yet: soon,
  mutations_unknown:
    'Nothing for some seconds. If it lasts: is domsed installed, and may the service see Mutations in the platform namespace?',
  throttled: soon,
  unavailable: soon,
  not_holder: soon,
  waiting_for_trust_policy: soon,
  waiting_for_mutation:
    'Nothing for some seconds. If it lasts: may the service write Mutations in the platform namespace?',
  waiting_for_pods: 'End the workloads that use the service account; it is deleted after the last of them.',
  contested: 'Find out what else changes it, a pipeline or a person, and stop that.',
  kubernetes_unavailable: 'Nothing for some seconds. If it lasts: look at the log for what the API server says.',
  role_not_found: 'Create the role under that ARN, or mend the mapping.',
  malformed_trust_policy: 'Mend the role’s trust policy: it names a principal that was deleted, or EKS cannot use it.',
  unmodifiable_role: 'Use another role: AWS owns this one.',
  trust_policy_full: 'Use a role of its own for some of the users, or have the quota of the trust policy raised.',
  access_denied: 'Give the service’s role the permissions of the documentation for Pod Identity.',
  pass_role_denied: 'Allow the service’s role iam:PassRole on this role, for pods.eks.amazonaws.com.',
  association_exists: soon,
  association_conflict: 'Delete the association that somebody else made, or name another service_account.',
  mutation_conflict:
    'Use Pod Identity in one installation only: unset EKS_CLUSTER_NAME in this one, or take the other one’s mappings away.',
  association_quota: 'Delete associations that nobody needs: AWS allows 5,000 in a cluster.',
  association_refused: 'Look at what EKS says in the service’s log, and mend the mapping.',
  association_not_found: soon,
  cluster_not_found: 'Set EKS_CLUSTER_NAME and AWS_REGION to this cluster’s.',
  invalid_mapping: 'Set the mapping again: what is stored cannot be read. What the user has stays until then.',
  name_taken: 'Name another service_account, or end the workloads of others that use this one.',
};

export function adviceFor(code: string): string {
  return Object.hasOwn(advice, code) ? advice[code as Told] : 'Look at the service’s log.';
}
