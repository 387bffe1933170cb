/** Owns the taking away of what Pod Identity needed for one service account, in the safe order. */
import { AwsError } from './aws-error.ts';
import { KubernetesError } from './kubernetes-api.ts';
import {
  audit,
  isStillIn,
  type PodIdentityOutcome,
  type PodIdentityPassDeps,
  refuseForRole,
  wait,
} from './pod-identity-pass.ts';
import type { PodIdentityRecord } from './pod-identity-record.ts';

/**
 * Takes the parts away: the Mutation's entry first, so that no new pod gets the account; then the role; and the account
 * last, when no pod uses it.
 * @throws AwsError, KubernetesError as `bring`.
 */
export async function takeAway(deps: PodIdentityPassDeps, record: PodIdentityRecord): Promise<PodIdentityOutcome> {
  return (await takeRoleAway(deps, record)) ?? takeAccountAway(deps, record);
}

/**
 * Takes all but the account away, also from one that another user is to get.
 * @returns undefined when nothing is left of it.
 */
export async function takeRoleAway(
  deps: PodIdentityPassDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  const { account } = record;
  const wasGiven = record.parts.mutation;
  record.isReady = false;
  if (deps.mutation.gives(account)) {
    deps.mutation.sync();
    return wait('waiting_for_mutation', 'the Mutation is being written');
  }
  record.parts.mutation = false;
  if (wasGiven) audit(deps, record, 'not given to new workloads any more');
  const found = await deps.associations.find(account, record.association?.id);
  if (found && deps.associations.isOurs(found)) {
    record.association = found;
    // Nobody is to take its absence for somebody else's doing.
    record.parts.association = false;
    await deps.publish(record);
    await deps.associations.remove(found);
    audit(deps, record, 'association removed');
  }
  record.association = undefined;
  record.creating = undefined;
  record.parts.association = false;
  deps.trust.want(account, new Map());
  record.trustedBy = new Set([...record.trustedBy].filter((role) => isStillIn(deps, record, role)));
  const [left] = record.trustedBy;
  if (left !== undefined) {
    deps.trust.retry(left);
    const state = deps.trust.state(left, account);
    if (typeof state !== 'object') return wait('waiting_for_trust_policy', `${left} still trusts the account`);
    return refuseForRole(state);
  }
  record.parts.trust_policy = false;
  return undefined;
}

async function takeAccountAway(deps: PodIdentityPassDeps, record: PodIdentityRecord): Promise<PodIdentityOutcome> {
  const { kubernetes, pods, mayWrite } = deps;
  const { account } = record;
  const waitFor = (live: number) => wait('waiting_for_pods', `${live} live pods use the service account`);
  try {
    // The watches may be behind: what is deleted is looked at where it is.
    const { ours, madeFor, resourceVersion } = await kubernetes.getServiceAccount(account);
    // One that was there before, or that an administrator asked for, stays.
    if (!ours || madeFor === undefined) return { kind: 'gone' };
    const known = pods.ofAccount(account).length;
    if (known > 0) return waitFor(known);
    const live = (await kubernetes.listPodsOfAccount(account)).filter((pod) => pod.live).length;
    if (live > 0) return waitFor(live);
    if (!mayWrite()) throw new AwsError('not_holder', 'the lease ran out');
    await kubernetes.deleteServiceAccount(account, resourceVersion);
    audit(deps, record, 'service account deleted');
  } catch (error) {
    if (!(error instanceof KubernetesError) || error.kind !== 'not_found') throw error;
  }
  record.parts.service_account = false;
  return { kind: 'gone' };
}
