/** Owns the first part of a Pod Identity: the service account in the compute namespace. */
import { AwsError } from '../aws/error.ts';
import { KubernetesError, unlessMissing } from '../kubernetes/error.ts';
import {
  audit,
  contested,
  drifted,
  type PodIdentityOutcome,
  type PodIdentityReconcileDeps,
  pauseOf,
  wait,
} from './outcome.ts';
import type { PodIdentityRecord } from './record.ts';

/** @returns undefined when the account exists; else the repair waits, since external changes keep deleting it. */
export async function ensureServiceAccount(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  if (deps.accounts.get(record.account) || (record.parts.service_account && (await isThere(deps, record)))) {
    record.parts.service_account = true;
    return undefined;
  }
  const pause = record.parts.service_account ? drifted(deps, record, ['service account'], []) : pauseOf(deps, record);
  record.parts.service_account = false;
  if (pause > 0) return contested(pause);
  try {
    if (!deps.mayWrite()) throw new AwsError('not_holder', 'the lease ran out');
    await deps.kubernetes.createServiceAccount(record.account, record.user);
    audit(deps, record, 'service account created');
  } catch (error) {
    // Another client created it first, or the watch is behind: it exists.
    if (!(error instanceof KubernetesError) || error.kind !== 'conflict') throw error;
  }
  record.parts.service_account = true;
  return undefined;
}

/** Deletes the account once no pod uses it. @returns undefined when it is deleted, or is not ours to delete. */
export async function removeServiceAccount(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  const { kubernetes, pods, mayWrite } = deps;
  const { account } = record;
  const waitFor = (live: number) => wait('waiting_for_pods', `${live} live pods use the service account`);
  try {
    // The watches may be behind, so the leader asks the API server before it deletes.
    const { ours, madeFor, resourceVersion } = await kubernetes.getServiceAccount(account);
    // An account that existed before, or that an administrator created, stays.
    if (!ours || madeFor === undefined) return undefined;
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
  return undefined;
}

/** The watch may be behind our own creation of it. */
async function isThere({ kubernetes }: PodIdentityReconcileDeps, { account }: PodIdentityRecord): Promise<boolean> {
  return (await unlessMissing(() => kubernetes.getServiceAccount(account))) !== undefined;
}
