/** Owns the types of the answers that the console shows: the parts of openapi.yaml that it reads. */

export interface ConsoleConfig {
  issuer: string;
  /** Null where the console has no login, and the person pastes a token. */
  client_id: string | null;
  version: string;
  runbook_url: string | null;
}

export interface Member {
  service_account: string;
  since: string;
  run_id?: string;
  user?: string;
  domino_orgs?: string[];
}

export interface Waiting {
  service_account: string;
  iam_role_arn: string;
  code: string;
  detail: string;
  run_id?: string;
  user?: string;
  asked_at?: string;
}

export interface Drift {
  at: string;
  count: number;
  missing: string[];
  extra: string[];
}

export interface ProxyRole {
  proxy_iam_role_arn: string;
  mapped: boolean;
  published: boolean;
  members: Member[];
  others?: string[];
  open_subjects?: { statement: number; sid?: string; subject: string | null }[];
  kept_elsewhere?: boolean;
  waiting: Waiting[];
  characters_used?: number;
  characters_allowed?: number;
  runs_that_still_fit?: number;
  written_at?: string;
  compared_at?: string;
  drift?: Drift;
  contested_until?: string;
  brake?: { since: string; held: string[] };
  role_tokens?: { granted: boolean; problem?: { code: string; detail: string } };
  error?: { code: string; detail: string; said?: string; at: string };
}

export interface PodIdentity {
  domino_user: string;
  service_account: string;
  iam_role_arn: string;
  target_role_arn?: string;
  state: 'in_place' | 'pending' | 'refused' | 'leaving';
  parts?: {
    service_account: boolean;
    trust_policy: boolean | 'kept_elsewhere';
    association: boolean;
    mutation: boolean;
  };
  code?: string;
  reason?: string;
  said?: string;
  since?: string;
  advice: string;
  pods: string[];
  restart: { pod: string; run_id?: string; why: string }[];
  drift?: Drift;
  contested_until?: string;
}

export interface Totals {
  proxy_roles: number;
  runs_with_roles: number;
  in_error: number;
  waiting: number;
  external_changes: number;
  held: number;
  not_checked_yet: number;
  revoked_runs: number;
  /** Null where the service does not know the replicas. */
  replicas: { ready: number; wanted: number } | null;
}

export interface TrustStatus {
  lease_holder: string | null;
  compared?: boolean;
  next?: string;
  totals?: Totals;
  proxy_roles: ProxyRole[];
  pod_identities?: PodIdentity[];
}

export interface Mapping {
  domino_org: string;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  /** Whether the service keeps the proxy role's trust policy. */
  update_iam_role_trust_policy: boolean | string;
  /** `entry` by default: an entry in the trust policy. */
  carrier?: 'entry' | 'token';
  /** Whether the organization proposes the role as its members' default profile. */
  default_profile?: boolean;
}

/** The Domino organization that a mapped name stands for. */
export interface OrganizationRecord {
  organization_id: string | null;
  contenders: { organization_id: string; user: string; at: string }[];
}

export interface RoleMappings {
  all_role_mappings: Record<string, Mapping[]>;
  organizations?: Record<string, OrganizationRecord>;
}

export interface LiveRun {
  run_id: string;
  live_pods: number;
  service_accounts: string[];
  asked_at?: string;
}

export interface RoleAccess {
  domino_org: string;
  member: boolean;
  iam_role_arn: string;
  proxy_iam_role_arn: string;
  carrier?: 'token';
  code: string;
  reason: string;
  advice: string;
  service_accounts?: { service_account: string; since?: string }[];
}

/** The answer of `GET /access`, and of `GET /my_access`, which lacks the optional fields. */
export interface Access {
  user: string;
  other_user_ids?: string[];
  domino_orgs: string[];
  membership?: { known_from: 'domino' | 'activity' | 'role_request' | 'nothing'; at?: string };
  pod_identity?: PodIdentity;
  run?: LiveRun;
  revocation?: { run_id: string; revoked_by: string; revoked_at: string; reason?: string };
  runs?: LiveRun[];
  more_runs?: number;
  access: RoleAccess[];
}

export interface RevokedRun {
  run_id: string;
  revoked_by: string;
  revoked_at: string;
  reason?: string;
  user?: string;
  live_pods: number;
}

export interface PodIdentityMapping {
  domino_user: string;
  domino_user_id?: string;
  service_account: string;
  iam_role_arn: string;
  target_role_arn?: string;
  disable_session_tags: boolean;
  /** The session policy, as JSON text. */
  policy?: string;
  update_iam_role_trust_policy: boolean;
}

/** One page of Pod Identity mappings. */
export interface PodIdentityMappings {
  next?: string;
  pod_identities?: PodIdentity[];
  pod_identity_mappings: PodIdentityMapping[];
  unusable: { domino_user: string; code: string; detail: string }[];
}

export interface ActivityEntry {
  id: string;
  at: string;
  kind: string;
  decision: string;
  summary: string;
  replica: string;
  user?: string;
  of_user?: string;
  run_id?: string;
  domino_org?: string;
  service_accounts?: string[];
  roles?: string[];
  refused?: { iam_role_arn: string; code: string }[];
  code?: string;
  reason?: string;
}

export interface Activity {
  activity: ActivityEntry[];
  next?: string;
  holds_since: string | null;
}
