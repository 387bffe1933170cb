/** Owns the types of the answers to dry runs and changes: the parts of openapi.yaml that the console reads. */
import type { Mapping, PodIdentityMapping } from './types.ts';

export interface Warning {
  code: string;
  detail: string;
  role_arn?: string;
}

export interface LosingRun {
  service_account: string;
  run_id: string;
  user: string;
  iam_role_arn: string;
  proxy_iam_role_arn?: string;
  again_at_next_refresh?: boolean;
}

export interface MappingPreview {
  domino_org: string;
  role_data: Mapping[];
  loses: LosingRun[];
  moves: { service_account: string; run_id: string; user: string; iam_role_arn: string; from: string; to: string[] }[];
  handed_over?: { proxy_iam_role_arn: string; service_accounts: string[]; removed: boolean }[];
  gains_at_next_refresh: { iam_role_arn: string; who: string }[];
  loses_at_next_refresh: { iam_role_arn: string; who: string }[];
  proxy_roles: { proxy_iam_role_arn: string; runs_that_still_fit?: number; error?: { code: string; detail: string } }[];
  fits: boolean | null;
  warnings: Warning[];
}

export interface StillIn {
  proxy_iam_role_arn: string;
  service_accounts: string[];
  code: string;
  detail: string;
}

export interface RevocationPreview {
  run_id: string;
  revoked: boolean;
  user?: string;
  service_accounts: string[];
  loses: LosingRun[];
  shut_out_too: { run_id: string; user?: string }[];
  stays_in: StillIn[];
}

export interface Revocation {
  run_id: string;
  left: boolean;
  still_in?: StillIn[];
}

export interface PodIdentityPreview {
  before: PodIdentityMapping | null;
  after: PodIdentityMapping | null;
  pods_that_lose_it: string[];
  pods_to_restart: string[];
  pods_of_others_in_the_way: string[];
  warnings: Warning[];
}
