/** Owns one turn of a service account with Pod Identity: its pass, what is published of it, and when it comes again. */
import { AwsError } from './aws-error.ts';
import type { Clock } from './clock.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Log } from './log.ts';
import type { PodIdentities, PodIdentityMapping } from './pod-identities.ts';
import { bring, type PodIdentityOutcome, type PodIdentityPassDeps } from './pod-identity-pass.ts';
import {
  contentOf,
  newRecord,
  type PodIdentityReason,
  type PodIdentityRecord,
  statusOfRecord,
} from './pod-identity-record.ts';
import { takeAway, takeRoleAway } from './pod-identity-removal.ts';
import type { PodIdentityStatus } from './pod-identity-status.ts';
import type { PodIdentityMetrics } from './pod-identity-writer.ts';
import type { Publisher } from './publisher.ts';

export interface PodIdentityTurnOptions {
  deps: PodIdentityPassDeps;
  records: Map<string, PodIdentityRecord>;
  identities: { current(): PodIdentities };
  publisher: Publisher<PodIdentityStatus>;
  metrics: PodIdentityMetrics;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

/**
 * @param account the service account. @param failures how often in a row it asked to come again.
 * @returns after how many milliseconds it is to be looked at again; undefined: when something changes.
 */
export type PodIdentityTurn = (account: string, failures: number) => Promise<number | undefined>;

const retryMs = 30_000;
/** EKS sees a role or a trust policy some seconds after IAM took it: until then its refusal tells nothing. */
const settleTries = 4;

export function createPodIdentityTurn(options: PodIdentityTurnOptions): PodIdentityTurn {
  const { deps, records, identities, publisher, metrics, clock, log, signal } = options;

  async function serve(account: string, failures: number): Promise<number | undefined> {
    const { byAccount, problems } = identities.current();
    const mapping = byAccount.get(account);
    const record = records.get(account) ?? (mapping && newRecord(account, mapping.domino_user, contentOf(mapping)));
    if (!record) return undefined;
    records.set(account, record);
    const problem = mapping?.domino_user === record.user ? undefined : problems.get(record.user);
    // What cannot be read says nothing about what is wanted: nothing is made of it, and nothing taken away.
    if (problem) return settle(record, { kind: 'refused', reason: problem }, failures);
    try {
      const outcome = mapping ? await bringTo(record, mapping) : await takeAway(deps, record);
      if (outcome.kind === 'gone') return await forget(record);
      return await settle(record, outcome, failures, mapping === undefined);
    } catch (error) {
      const pause = Math.min(retryMs, 250 * 2 ** failures) * (0.5 + Math.random() / 2);
      if (signal.aborted) return pause;
      if (!(error instanceof AwsError) && !(error instanceof KubernetesError)) throw error;
      log.warn({ err: error, service_account: account, failures }, 'Pod Identity: it was not done; trying again');
      await settle(record, outcomeOf(error, failures), failures, mapping === undefined).catch((cause: unknown) => {
        if (!(cause instanceof KubernetesError)) throw cause;
        log.warn({ err: cause, service_account: account }, 'Pod Identity: the status was not published');
      });
      return pause;
    }
  }

  /** An account that goes to another user loses the role of the one before first, whatever pods still run with it. */
  async function bringTo(record: PodIdentityRecord, mapping: PodIdentityMapping): Promise<PodIdentityOutcome> {
    if (record.user !== mapping.domino_user) {
      const left = await takeRoleAway(deps, record);
      if (left) return left;
      record.user = mapping.domino_user;
    }
    return bring(deps, record, mapping);
  }

  async function settle(record: PodIdentityRecord, outcome: PodIdentityOutcome, failures: number, isLeaving = false) {
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
        log.warn(about, 'Pod Identity: this cannot be had until somebody mends it');
      }
    }
    const status = statusOfRecord(record);
    await publisher.publish(status);
    metrics.published(status);
    if (kind === 'waiting') return outcome.afterMs;
    return kind === 'refused' ? Math.min(retryMs, 1_000 * 2 ** failures) : undefined;
  }

  async function forget(record: PodIdentityRecord): Promise<undefined> {
    await publisher.withdraw(record.account);
    records.delete(record.account);
    metrics.forgotten(record.account);
    log.info(
      { audit: 'pod_identity', change: 'all taken away', user: record.user, service_account: record.account },
      'Pod Identity: all taken away',
    );
    return undefined;
  }

  return serve;
}

function outcomeOf(error: AwsError | KubernetesError, failures: number): PodIdentityOutcome {
  if (error instanceof KubernetesError) {
    const detail = 'the Kubernetes API server did not do it; it is tried again';
    return { kind: 'waiting', reason: { code: 'kubernetes_unavailable', detail } };
  }
  const { code, message: detail, said } = error;
  const reason: PodIdentityReason = { code, detail, said };
  const isSettling = (code === 'role_not_found' || code === 'malformed_trust_policy') && failures < settleTries;
  return { kind: error.transient || isSettling ? 'waiting' : 'refused', reason };
}
