/** Owns what people are told to do about a role that they have, or have not: one sentence per code. Pure. */

/** Code -> what to do. The codes of a role's error in IAM are among them; clients match on the code. */
const adviceOf = {
  granted: 'Nothing: the profile of this role in the AWS config file works, some seconds after IAM accepted it.',
  ready: 'Nothing: a run that asks gets it. Add run_id to this request to see how a run of yours fares.',
  in_another_proxy: 'Nothing: the profile in the AWS config file names that proxy role.',
  partly_granted: 'Ask again in a few seconds; where it stays so, the proxy role has no room for the other accounts.',
  pending: 'Ask again in a few seconds; where it stays so for minutes, tell an administrator.',
  not_checked_yet: 'Ask again in a few seconds; where it stays so for minutes, tell an administrator.',
  not_requested:
    'Let the run ask for its roles: the side-car does so at its start, and POST /map_iam_roles_to_pod_sa at any time.',
  refresh_needed:
    'Let the run ask again: the side-car does so every few minutes, and POST /map_iam_roles_to_pod_sa at once.',
  not_a_member: 'Ask an owner of the organization in Domino to add you, if you should have the role.',
  mapping_gone: 'Ask an administrator whether the role was taken away on purpose.',
  invalid_mapping: 'Tell an administrator: the mapping has to be set anew.',
  kept_elsewhere: 'If AWS refuses the role, ask whoever keeps the trust policy of the proxy role to let this run in.',
  run_revoked: 'Ask an administrator to allow the run again, or start another run.',
  shared_service_account: 'Ask an administrator for a service account of your own, or wait until the other pods ended.',
  trust_policy_full: 'Wait until another run ends, or ask an administrator for another proxy role or a higher quota.',
  role_not_found: 'Tell an administrator: the proxy role has to be created, or the mapping to name another one.',
  malformed_trust_policy: 'Tell an administrator: the trust policy of the proxy role has to be mended by hand.',
  unmodifiable_role: 'Tell an administrator: AWS lets nobody change this role, so the mapping has to name another one.',
  access_denied: 'Tell an administrator: this service lacks the permission in AWS to keep the trust policy.',
} as const;

export type AccessCode = keyof typeof adviceOf;

/** @param code one of ours, or of the writer's refusals. */
export function adviceFor(code: string): string {
  return Object.hasOwn(adviceOf, code)
    ? adviceOf[code as AccessCode]
    : 'Tell an administrator, who finds more about it in the status of the proxy role.';
}
