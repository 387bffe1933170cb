/** Owns the dry run of a Pod Identity mapping: reads the role's trust policy from IAM, and reports what is wrong with it. */
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import { readTrustPolicy, type TrustScope } from '../trust-policy/document.ts';
import type { PodIdentities, PodIdentityMapping } from './mappings.ts';

/** What a person has to fix before the mapping is made, or after it. */
export interface PodIdentityWarning {
  code: string;
  detail: string;
}

export interface PodIdentityPreviewOptions {
  iam: Pick<Iam, 'getTrustPolicy'>;
  /** Undefined until STS has named our AWS account. */
  scope: () => TrustScope | undefined;
  identities: { current(): PodIdentities };
}

export type PodIdentityPreview = (mapping: PodIdentityMapping) => Promise<PodIdentityWarning[]>;

const timeoutMs = 5_000;

/** @returns a preview that reports an error of IAM as a warning, too. */
export function createPodIdentityPreview({ iam, scope, identities }: PodIdentityPreviewOptions): PodIdentityPreview {
  return async (mapping) => {
    const { iam_role_arn: role, service_account: account, domino_user: user } = mapping;
    const { byUser, unmanagedRoles } = identities.current();
    const place = scope();
    // An unmanaged trust policy is not read; nor is any until our AWS account is known.
    if (!place || !mapping.update_iam_role_trust_policy || unmanagedRoles.has(role)) return [];
    let text: string;
    try {
      text = await iam.getTrustPolicy(role, AbortSignal.timeout(timeoutMs));
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return [{ code: error.code, detail: `The trust policy of ${role} was not read: ${error.message}.` }];
    }
    const sharing = [...byUser.values()].filter((one) => one.iam_role_arn === role && one.domino_user !== user);
    const accounts = new Set([account, ...sharing.map((one) => one.service_account)]);
    const open = [mapping, ...sharing].some((one) => one.disable_session_tags);
    const view = readTrustPolicy(place, text, { members: false, pods: { accounts, open } });
    if (view.kind === 'refused') return [{ code: view.code, detail: view.detail }];
    return view.beside?.problem ? [view.beside.problem] : [];
  };
}
