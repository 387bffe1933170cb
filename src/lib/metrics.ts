/** Owns the metrics: those of release 1.8, which dashboards use, and ours. Their help texts make docs/metrics.md. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';

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
    // The names of release 1.8, with its spelling, for its Grafana dashboard.
    mappingRequests: counter('irsa_mapping_requests_total', 'Requests to map roles to a run'),
    failedMappingRequests: counter('irsa_failed_maping_requests_total', 'Requests to map roles to a run that failed'),
    principalQueries: counter('irsa_query_user_principal_total', 'Queries of Domino for the principal'),
    failedPrincipalQueries: counter(
      'irsa_failed_query_user_principal_total',
      'Queries of Domino for the principal that failed',
    ),
    organizationQueries: counter('irsa_query_user_org_membership_total', 'Queries of Domino for organizations'),
    failedOrganizationQueries: counter(
      'irsa_failed_query_user_org_membership_total',
      'Queries of Domino for organizations that failed',
    ),
    mappingQueries: counter(
      'irsa_query_config_map_org_to_iamrole_mapping_total',
      'Look-ups of role mappings for a caller',
    ),
    // The names of this release.
    requestSeconds: histogram('irsa_http_request_seconds', 'Duration of HTTP requests', fastSeconds, [
      'method',
      'route',
      'status',
    ]),
    settleSeconds: histogram('irsa_grant_settle_seconds', 'How long requests waited for IAM', fastSeconds),
    roleOutcomes: counter('irsa_role_outcomes_total', 'Roles granted and refused, by reason', ['outcome']),
    roleTokens: counter('irsa_role_tokens_total', 'Role tokens given and refused, by reason', ['outcome']),
    roleTokenSeconds: histogram('irsa_role_token_seconds', 'How long requests for role tokens took', fastSeconds),
    iamSeconds: histogram('irsa_iam_call_seconds', 'Duration of calls to AWS', fastSeconds, ['action', 'outcome']),
    batchSize: histogram(
      'irsa_trust_policy_batch_size',
      'Service accounts added by one write',
      [0, 1, 2, 5, 10, 20, 50, 100, 200],
    ),
    members: gauge('irsa_proxy_role_members', 'Service accounts in a trust policy', ['role']),
    characters: gauge('irsa_proxy_role_characters', 'Characters of a trust policy, white space apart', ['role']),
    charactersAllowed: gauge('irsa_proxy_role_characters_allowed', 'Characters that its quota allows', ['role']),
    revokeSeconds: histogram(
      'irsa_revoke_seconds',
      'From the end of a run to the trust policy without it',
      [0.5, 1, 2, 3, 4, 5, 7.5, 10, 20, 60],
    ),
    droppedActivity: counter('irsa_activity_dropped_total', 'Entries of the activity record that could not be kept'),
    drifts: counter('irsa_trust_policy_drift_total', 'External changes of trust policies that were found', ['role']),
    contested: gauge('irsa_trust_policy_contested', '1 while an external tool keeps overwriting the trust policy', [
      'role',
    ]),
    brakeHeld: gauge(
      'irsa_brake_held_members',
      'Members that the removal guard holds, since so large a removal looks like a mistake',
      ['role'],
    ),
    waiting: gauge('irsa_waiting_wants', 'Role requests that wait for room in a pool that begins with this role', [
      'role',
    ]),
    roleErrors: gauge('irsa_proxy_role_error', '1 while the trust policy cannot be kept, by reason', ['role', 'code']),
    roleTokensProblem: gauge('irsa_role_tokens_problem', '1 while role tokens do not work as they should, by reason', [
      'role',
      'code',
    ]),
    unusableMappings: gauge('irsa_unusable_mappings', 'Stored mappings that cannot be used, by what they map to', [
      'to',
    ]),
    tokenRefusals: counter('irsa_token_refusals_total', 'Bearer tokens that were refused, by reason', ['reason']),
    organizationRefusals: counter(
      'irsa_organization_refusals_total',
      'Requests of members of another organization than the one that a mapped name stands for',
    ),
    contestedOrganizations: gauge(
      'irsa_contested_organizations',
      'Mapped names of which members of several organizations asked',
    ),
    podIdentities: gauge('irsa_pod_identity', '1 for each service account with Pod Identity, by state', [
      'service_account',
      'state',
    ]),
    podIdentityProblems: gauge('irsa_pod_identity_problem', '1 while a Pod Identity waits or is refused, by reason', [
      'service_account',
      'code',
    ]),
    podIdentityDrifts: counter('irsa_pod_identity_drift_total', 'External changes of what Pod Identity needs', [
      'part',
    ]),
    leaseHeld: gauge('irsa_lease_held', '1 where this replica is the leader: the sum over replicas is 1'),
    watchRestarts: counter('irsa_watch_restarts_total', 'Kubernetes watches that had to be started anew', ['resource']),
    certificateReloads: counter('irsa_certificate_reloads_total', 'Certificates read again, by outcome', ['outcome']),
  };
}
