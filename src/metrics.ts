/** Owns the metrics: release 1.8's names, which dashboards rely on, and histograms of our own. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { podIdentityReasonCodes } from './pod-identity-record.ts';
import { type PodIdentityStatus, podIdentityStates } from './pod-identity-status.ts';
import type { TrustStatus } from './trust-status.ts';

export type Metrics = ReturnType<typeof createMetrics>;

const fastSeconds = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export function createMetrics() {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = (name: string, help: string, labelNames: string[] = []) =>
    new Counter({ name, help, labelNames, registers });
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name, help, labelNames, registers });
  const histogram = (name: string, help: string, buckets: number[], labelNames: string[] = []) =>
    new Histogram({ name, help, buckets, labelNames, registers });

  return {
    registry,
    // Release 1.8's names, in its spelling: its Grafana dashboard asks for these.
    mappingRequests: counter('irsa_mapping_requests_total', 'Requests to map roles to a run'),
    failedMappingRequests: counter('irsa_failed_maping_requests_total', 'Requests to map roles to a run that failed'),
    principalQueries: counter('irsa_query_user_principal_total', 'Queries of Domino for the principal'),
    failedPrincipalQueries: counter('irsa_failed_query_user_principal_total', 'Such queries that failed'),
    organizationQueries: counter('irsa_query_user_org_membership_total', 'Queries of Domino for organizations'),
    failedOrganizationQueries: counter('irsa_failed_query_user_org_membership_total', 'Such queries that failed'),
    mappingQueries: counter(
      'irsa_query_config_map_org_to_iamrole_mapping_total',
      'Look-ups of role mappings for a caller',
    ),
    // Ours.
    requestSeconds: histogram('irsa_http_request_seconds', 'Duration of HTTP requests', fastSeconds, [
      'method',
      'route',
      'status',
    ]),
    settleSeconds: histogram('irsa_grant_settle_seconds', 'From the want to its settlement', fastSeconds),
    roleOutcomes: counter('irsa_role_outcomes_total', 'Roles granted and refused, by reason', ['outcome']),
    iamSeconds: histogram('irsa_iam_call_seconds', 'Duration of calls to AWS', fastSeconds, ['action', 'outcome']),
    batchSize: histogram(
      'irsa_trust_policy_batch_size',
      'Accounts added by one write',
      [0, 1, 2, 5, 10, 20, 50, 100, 200],
    ),
    members: gauge('irsa_proxy_role_members', 'Service accounts in a trust policy', ['role']),
    characters: gauge('irsa_proxy_role_characters', 'Characters of a trust policy, white space apart', ['role']),
    charactersAllowed: gauge('irsa_proxy_role_characters_allowed', 'Characters that its quota allows', ['role']),
    revokeSeconds: histogram(
      'irsa_revoke_seconds',
      'From the end of what entitled an account to the write without it',
      [0.5, 1, 2, 3, 4, 5, 7.5, 10, 20, 60],
    ),
    drifts: counter('irsa_trust_policy_drift_total', 'Trust policies found changed by somebody else', ['role']),
    contested: gauge('irsa_trust_policy_contested', '1 while somebody keeps overwriting the trust policy', ['role']),
    brakeHeld: gauge('irsa_brake_held_members', 'Members not dropped since the drop looks like a mistake', ['role']),
    waiting: gauge('irsa_waiting_wants', 'Wants that wait for room in a pool that begins with this role', ['role']),
    roleErrors: gauge('irsa_proxy_role_error', '1 while the trust policy cannot be kept, by reason', ['role', 'code']),
    unusableMappings: gauge('irsa_unusable_mappings', 'Stored mappings that cannot be used, by what they map to', [
      'to',
    ]),
    podIdentities: gauge('irsa_pod_identity', '1 for each service account with Pod Identity, by state', [
      'service_account',
      'state',
    ]),
    podIdentityProblems: gauge('irsa_pod_identity_problem', '1 while a Pod Identity waits or is refused, by reason', [
      'service_account',
      'code',
    ]),
    podIdentityDrifts: counter('irsa_pod_identity_drift_total', 'Changes by somebody else to what Pod Identity needs', [
      'part',
    ]),
    leaseHeld: gauge('irsa_lease_held', '1 where this replica is the writer'),
    watchRestarts: counter('irsa_watch_restarts_total', 'Kubernetes watches that had to be started anew', ['resource']),
    certificateReloads: counter('irsa_certificate_reloads_total', 'Certificates read again, by outcome', ['outcome']),
  };
}

/** What the writer tells of a role, each time that its status is published. */
export function publishMetrics(metrics: Metrics, status: TrustStatus): void {
  const role = status.role_arn;
  metrics.members.set({ role }, Object.keys(status.members).length);
  metrics.characters.set({ role }, status.characters_used);
  metrics.charactersAllowed.set({ role }, status.characters_allowed);
  metrics.contested.set({ role }, status.contested_until === undefined ? 0 : 1);
  metrics.brakeHeld.set({ role }, status.brake?.held.length ?? 0);
  metrics.waiting.set({ role }, status.refused.filter(({ code }) => code === 'trust_policy_full').length);
  forgetErrors(metrics, role);
  if (status.error) metrics.roleErrors.set({ role, code: status.error.code }, 1);
}

/** The role is none of ours any more, or another replica's to tell of. */
export function forgetMetrics(metrics: Metrics, role: string): void {
  const { members, characters, charactersAllowed, contested, brakeHeld, waiting } = metrics;
  for (const gauge of [members, characters, charactersAllowed, contested, brakeHeld, waiting]) gauge.remove({ role });
  forgetErrors(metrics, role);
}

/** What the writer tells of a service account with Pod Identity, each time that its status is published. */
export function publishPodIdentityMetrics(metrics: Metrics, status: PodIdentityStatus): void {
  const { service_account, state, reason } = status;
  forgetPodIdentityMetrics(metrics, service_account);
  metrics.podIdentities.set({ service_account, state }, 1);
  if (reason) metrics.podIdentityProblems.set({ service_account, code: reason.code }, 1);
}

export function forgetPodIdentityMetrics(metrics: Metrics, account: string): void {
  for (const state of podIdentityStates) metrics.podIdentities.remove({ service_account: account, state });
  for (const code of podIdentityReasonCodes) metrics.podIdentityProblems.remove({ service_account: account, code });
}

const reasons = ['role_not_found', 'malformed_trust_policy', 'unmodifiable_role', 'trust_policy_full', 'access_denied'];

function forgetErrors({ roleErrors }: Metrics, role: string): void {
  for (const code of reasons) roleErrors.remove({ role, code });
}
