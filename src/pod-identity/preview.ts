/** Owns what a dry run says of the role that a Pod Identity mapping names: it is looked at in IAM, and not changed. */
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import { readTrustPolicy, type TrustScope } from '../trust-policy/document.ts';
import type { PodIdentities, PodIdentityMapping } from './mappings.ts';

/** What a person has to mend before the mapping, or after it. */
export interface PodIdentityWarning {
  code: string;
  detail: string;
}

export interface PodIdentityPreviewOptions {
  iam: Pick<Iam, 'getTrustPolicy'>;
  /** Undefined until STS has said who we are. */
  scope: () => TrustScope | undefined;
  identities: { current(): PodIdentities };
}

export type PodIdentityPreview = (mapping: PodIdentityMapping) => Promise<PodIdentityWarning[]>;

const timeoutMs = 5_000;

/** @returns a preview that never throws: what cannot be looked at is a warning too. */
export function createPodIdentityPreview({ iam, scope, identities }: PodIdentityPreviewOptions): PodIdentityPreview {
  return async (mapping) => {
    const { iam_role_arn: role, service_account: account, domino_user: user } = mapping;
    const { byUser, unmanagedRoles } = identities.current();
    const place = scope();
    // The trust policy is not ours to keep, so nobody here looks at it.
    if (!place || !mapping.update_iam_role_trust_policy || unmanagedRoles.has(role)) return [];
    let text: string;
    try {
      text = await iam.getTrustPolicy(role, AbortSignal.timeout(timeoutMs));
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      return [{ code: error.code, detail: `The trust policy of ${role} was not looked at: ${error.message}.` }];
    }
    const sharing = [...byUser.values()].filter((one) => one.iam_role_arn === role && one.domino_user !== user);
    const accounts = new Set([account, ...sharing.map((one) => one.service_account)]);
    const open = [mapping, ...sharing].some((one) => one.disable_session_tags);
    const view = readTrustPolicy(place, text, { members: false, pods: { accounts, open } });
    if (view.kind === 'refused') return [{ code: view.code, detail: view.detail }];
    return view.beside?.problem ? [view.beside.problem] : [];
  };
}
