/** Owns one reconcile of a service account with Pod Identity: its parts in order, its status, and the next reconcile. */
import { AwsError } from '../aws/error.ts';
import type { Pod } from '../kubernetes/client.ts';
import { isRefused, KubernetesError } from '../kubernetes/transport.ts';
import type { Publisher } from '../reconcile/publisher.ts';
import { apart, done, failed, type Reconciler, type Result, requeue } from '../reconcile/queue.ts';
import { ensureAssociation, refuseUnmanaged, removeAssociation } from './association.ts';
import type { PodIdentityMetrics } from './controller.ts';
import type { PodIdentities, PodIdentityMapping } from './mappings.ts';
import { ensureMutation, removeMutation, withhold } from './mutation.ts';
import { type PodIdentityOutcome, type PodIdentityReconcileDeps, refuse, wait } from './outcome.ts';
import { ensureCredentials } from './probe.ts';
import {
  contentOf,
  newRecord,
  type PodIdentityReason,
  type PodIdentityRecord,
  sameContent,
  statusOfRecord,
} from './record.ts';
import { ensureServiceAccount, removeServiceAccount } from './service-account.ts';
import type { PodIdentityStatus } from './status.ts';
import { ensureTrust, removeOldTrust, removeTrust } from './trust.ts';

export interface PodIdentityReconcilerOptions {
  deps: PodIdentityReconcileDeps;
  records: Map<string, PodIdentityRecord>;
  identities: { current(): PodIdentities };
  publisher: Publisher<PodIdentityStatus>;
  metrics: PodIdentityMetrics;
  signal: AbortSignal;
}

const refusedMs = 1_000;
const firstRetryMs = 250;
/** EKS sees a role or a trust policy some seconds after IAM accepted it: until then its refusal proves nothing. */
const settleMs = 60_000;
/** How many tries prove nothing in any case: of an unmanaged trust policy we do not know when it was written. */
const settleTries = 4;

/** @returns the reconciler of a service account. */
export function createPodIdentityReconciler(options: PodIdentityReconcilerOptions): Reconciler {
  const { deps, records, identities, publisher, metrics, signal } = options;
  const { clock, log } = deps;

  async function reconcile(account: string, failures: number): Promise<Result> {
    const { byAccount, problems } = identities.current();
    const mapping = byAccount.get(account);
    const record = records.get(account) ?? (mapping && newRecord(account, mapping.domino_user, contentOf(mapping)));
    if (!record) return done;
    records.set(account, record);
    const problem = mapping?.domino_user === record.user ? undefined : problems.get(record.user);
    // A mapping that cannot be used does not show what is wanted: nothing is created, and nothing is removed.
    if (problem) return settle(record, refuse(problem));
    try {
      const outcome = mapping ? await ensure(deps, record, mapping) : await remove(deps, record);
      if (outcome.kind === 'gone') return await forget(record);
      return await settle(record, outcome, mapping === undefined);
    } catch (error) {
      if (signal.aborted) return failed(apart(firstRetryMs));
      if (!(error instanceof AwsError) && !(error instanceof KubernetesError)) throw error;
      log.warn({ err: error, service_account: account, failures }, 'Pod Identity: the reconcile failed; trying again');
      const outcome = outcomeOf(error, isSettling(record, failures));
      await settle(record, outcome, mapping === undefined).catch((cause: unknown) => {
        if (!(cause instanceof KubernetesError)) throw cause;
        const about = { err: cause, service_account: account };
        log[isRefused(cause) ? 'error' : 'warn'](about, 'Pod Identity: the status was not published');
      });
      return failed(apart(firstRetryMs));
    }
  }

  /** Whether EKS may not have seen our last change in IAM yet. */
  function isSettling({ content }: PodIdentityRecord, failures: number): boolean {
    if (failures < settleTries) return true;
    return clock.now() - (deps.trust.writtenAt(content.roleArn) ?? Number.NEGATIVE_INFINITY) < settleMs;
  }

  async function settle(record: PodIdentityRecord, outcome: PodIdentityOutcome, isLeaving = false): Promise<Result> {
    const { kind } = outcome;
    record.state = kind === 'in_place' || kind === 'refused' ? kind : 'pending';
    if (isLeaving) record.state = 'leaving';
    if (kind === 'in_place') record.contested = undefined;
    const reason = kind === 'waiting' || kind === 'refused' ? outcome.reason : undefined;
    const isSame = record.reason?.code === reason?.code && record.reason?.detail === reason?.detail;
    if (!isSame) {
      record.reason = reason && { ...reason, at: new Date(clock.now()).toISOString() };
      if (kind === 'refused') {
        const about = { service_account: record.account, user: record.user, ...reason };
        log.warn(about, 'Pod Identity: this is refused until a person fixes it');
      }
    }
    const status = statusOfRecord(record);
    await publisher.publish(status);
    metrics.published(status);
    if (kind === 'refused') return failed(refusedMs);
    return kind === 'waiting' && outcome.afterMs !== undefined ? requeue(outcome.afterMs) : done;
  }

  async function forget(record: PodIdentityRecord): Promise<Result> {
    await publisher.withdraw(record.account);
    records.delete(record.account);
    metrics.forgotten(record.account);
    log.info(
      { audit: 'pod_identity', change: 'all taken away', user: record.user, service_account: record.account },
      'Pod Identity: all parts were removed',
    );
    return done;
  }

  return reconcile;
}

function outcomeOf(error: AwsError | KubernetesError, settling: boolean): PodIdentityOutcome {
  if (isRefused(error)) {
    const detail = `Kubernetes refuses ${error.call ?? 'a write'}, by a policy, a quota or a limit of its own`;
    return refuse({ code: 'kubernetes_refused', detail, said: error.said });
  }
  if (error instanceof KubernetesError) {
    const call = error.call ?? 'a call to the Kubernetes API server';
    return wait('kubernetes_unavailable', `${call} was not done; the leader tries again`);
  }
  const { code, message: detail, said } = error;
  const reason: PodIdentityReason = { code, detail, said };
  if (settling && (code === 'role_not_found' || code === 'malformed_trust_policy')) {
    const seen = `EKS has not seen ${code === 'role_not_found' ? 'the role' : 'its trust policy'} yet, and is asked again`;
    return { kind: 'waiting', reason: { code: 'waiting_for_eks', detail: seen, said } };
  }
  return { kind: error.transient ? 'waiting' : 'refused', reason };
}

/**
 * Puts the parts in place: account, trust, association, and last the Mutation, so that no pod gets an account that has no
 * role yet. An account that is mapped to another user first loses the role of the former one, even while pods use it.
 * @throws AwsError, KubernetesError: nothing is lost, the next reconcile goes on from where this one ended.
 */
async function ensure(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  mapping: PodIdentityMapping,
): Promise<PodIdentityOutcome> {
  if (record.user !== mapping.domino_user) {
    const left = await removeRole(deps, record);
    if (left) return left;
    record.user = mapping.domino_user;
  }
  record.content = contentOf(mapping);
  const isNew = record.association === undefined;
  const taken = isNew ? refuseOthers(deps, record, deps.pods.ofAccount(record.account), mapping) : undefined;
  if (taken) return taken;
  // The mapping changed, which is no external change.
  if (record.association && !sameContent(record.association, record.content)) {
    record.parts.association = false;
    record.state = 'pending';
  }
  const outcome = (await ensureServiceAccount(deps, record)) ?? (await ensureRole(deps, record, mapping, isNew));
  return (
    outcome ?? (await ensureCredentials(deps, record)) ?? ensureMutation(deps, record) ?? removeOldTrust(deps, record)
  );
}

/** Trust and association. @returns undefined when EKS has the association as the mapping says. */
async function ensureRole(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  mapping: PodIdentityMapping,
  isNew: boolean,
): Promise<PodIdentityOutcome | undefined> {
  const { account } = record;
  // Looked up first: where the association is unmanaged, the trust of the mapping's role stays as it is.
  const found = await deps.associations.find(account, record.association?.id);
  // The watch may be behind, so the pods of a new account are listed. While its role has an error they are not, so that
  // retries do not list them each time.
  const unseen = async () => refuseOthers(deps, record, await deps.kubernetes.listPodsOfAccount(account), mapping);
  const isRoleUsable = typeof deps.trust.state(record.content.roleArn, account) !== 'object';
  const outcome =
    refuseUnmanaged(deps, record, found) ??
    (isNew && isRoleUsable ? await unseen() : undefined) ??
    (await ensureTrust(deps, record)) ??
    (isNew && !isRoleUsable ? await unseen() : undefined) ??
    (await ensureAssociation(deps, record, found));
  if (!record.isReady) withhold(deps, record);
  return outcome;
}

/** Removes the parts in reverse order, the account last, once no pod uses it. @throws AwsError, KubernetesError as `ensure`. */
async function remove(deps: PodIdentityReconcileDeps, record: PodIdentityRecord): Promise<PodIdentityOutcome> {
  return (await removeRole(deps, record)) ?? (await removeServiceAccount(deps, record)) ?? { kind: 'gone' };
}

/** Removes all parts but the account, also where that is mapped to another user. @returns undefined when they are gone. */
async function removeRole(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
): Promise<PodIdentityOutcome | undefined> {
  return removeMutation(deps, record) ?? (await removeAssociation(deps, record)) ?? removeTrust(deps, record);
}

function refuseOthers(
  deps: PodIdentityReconcileDeps,
  record: PodIdentityRecord,
  pods: readonly Pod[],
  { domino_user: user }: PodIdentityMapping,
): PodIdentityOutcome | undefined {
  const others = pods.filter(({ live, userName }) => live && userName !== user);
  if (others.length === 0) return undefined;
  withhold(deps, record);
  const detail = `service account ${record.account} is used by ${others.length} live pods that ${user} did not start, who would get the role`;
  return refuse({ code: 'name_taken', detail });
}
