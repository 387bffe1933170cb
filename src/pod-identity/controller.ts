/** Owns the controller of Pod Identity in a leader's term: reconciles the service accounts that need it, one at a time. */

import type { HeldLease } from '../aws/call.ts';
import type { Eks } from '../aws/eks.ts';
import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { Kubernetes, Mutation, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { ProxyRole } from '../proxy-roles/proxy-role.ts';
import { recordEvent } from '../reconcile/events.ts';
import { createPublisher, type Publisher } from '../reconcile/publisher.ts';
import { beforeOthers, ReconcileQueue } from '../reconcile/queue.ts';
import type { PodIndex } from '../runs/runs.ts';
import { type Associations, createAssociations } from './association-client.ts';
import { type PodIdentityMapping, podIdentityConfigMap } from './mappings.ts';
import { MutationKeeper } from './mutation-client.ts';
import { podIdentityMutation } from './mutation-rules.ts';
import type { PodIdentityReconcileDeps } from './outcome.ts';
import { createPodIdentityReconciler } from './reconcile.ts';
import { contentOf, type PodIdentityRecord, sameContent, statusOfRecord } from './record.ts';
import { findOrphans, type Inheritance, isLeft, takeOver } from './recover.ts';
import { type PodIdentityStatus, type PodIdentityStatuses, podIdentityStatusForm } from './status.ts';
import type { PodIdentityStore } from './store.ts';
import { createPodTrustKeeper, type PodTrustKeeper } from './trust-client.ts';

export interface PodIdentityMetrics {
  published(status: PodIdentityStatus): void;
  forgotten(account: string): void;
  drifted(part: 'account' | 'mutation'): void;
}

/** What each replica has for Pod Identity, whether it is the leader or not. */
export interface PodIdentitySources {
  identities: Pick<PodIdentityStore, 'current' | 'onChange' | 'caughtUp'>;
  statuses: PodIdentityStatuses;
  mutation: Watched<Mutation>;
  /** Resolves with the client, once the caches are filled. */
  ready: Promise<Eks>;
  metrics: PodIdentityMetrics;
  /** Identifies this installation among others in the cluster: its field namespace. */
  installation: string;
}

export interface PodIdentityTermOptions extends Omit<PodIdentitySources, 'ready'> {
  eks: Eks;
  kubernetes: Kubernetes;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  /** Whether the role is unmanaged: its owner keeps its trust policy. */
  isUnmanaged: (role: string) => boolean;
  role: (arn: string) => ProxyRole;
  roles: () => Iterable<ProxyRole>;
  roleChanged: (role: ProxyRole) => void;
  reads: RateLimiter;
  writes: RateLimiter;
  lease: HeldLease;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

const waitsForMutation: ReadonlySet<string> = new Set(['waiting_for_mutation', 'kubernetes_refused']);

/** Pod Identity during one term of a leader. */
export class PodIdentityTerm {
  private readonly options: PodIdentityTermOptions;
  private readonly records = new Map<string, PodIdentityRecord>();
  /** The ids of associations that this installation did not make: they are not described a second time. */
  private readonly unmanaged = new Set<string>();
  private readonly publisher: Publisher<PodIdentityStatus>;
  private readonly associations: Associations;
  private readonly trust: PodTrustKeeper;
  private readonly mutation: MutationKeeper;
  private readonly queue: ReconcileQueue;
  private readonly recovery: Inheritance;
  /** One search at a time: the first one describes each unmanaged association, and may take longer than a resync. */
  private searching: Promise<void> | undefined;

  constructor(options: PodIdentityTermOptions) {
    const { identities, statuses, kubernetes, lease, signal } = options;
    const { records } = this;
    this.options = options;
    const mayWrite = () => lease.holds() && !signal.aborted;
    this.publisher = createPublisher(podIdentityStatusForm, kubernetes, statuses, mayWrite);
    this.associations = createAssociations(options);
    this.trust = createPodTrustKeeper(options);
    this.mutation = this.createMutationKeeper(mayWrite);
    const reconcile = createPodIdentityReconciler({ ...options, ...this.reconcilerParts(mayWrite) });
    this.queue = new ReconcileQueue({ ...options, reconcile, of: 'a Pod Identity', workers: 1 });
    this.recovery = { ...options, identities: () => identities.current(), records, trust: this.trust };
    takeOver(this.recovery);
    this.compareAll();
  }

  /** Reconciles every account, and searches for associations of ours that no mapping names. */
  compareAll(): void {
    const { associations, unmanaged, options } = this;
    for (const account of this.accounts()) this.queue.due(account, 0);
    this.mutation.sync();
    this.searching ??= findOrphans(this.recovery, associations, unmanaged, (account) => this.queue.due(account, 0))
      .catch((error: unknown) => {
        if (!options.signal.aborted)
          options.log.info({ err: error }, 'associations were not listed; trying again later');
      })
      .finally(() => {
        this.searching = undefined;
      });
  }

  mappingsChanged(): void {
    const { byAccount, problems } = this.options.identities.current();
    for (const account of this.accounts()) {
      const record = this.records.get(account);
      const mapping = byAccount.get(account);
      const isSame = record && mapping && sameMapping(record, mapping, this.options.isUnmanaged(mapping.iam_role_arn));
      // An account that waits or is refused may do so for another mapping, or for a problem that is fixed now.
      if (!isSame || record.reason || problems.has(record.user)) this.queue.due(account, beforeOthers);
    }
    this.mutation.sync();
  }

  /** Reconciles an account whose service account or pods changed, where that matters. */
  accountChanged(account: string): void {
    const record = this.records.get(account);
    if (!record) return;
    // Runs start and end on an account that is in place: that alone needs no calls to EKS.
    const isMissing = record.parts.service_account && !this.options.accounts.get(account);
    if (isMissing || record.state === 'leaving' || record.reason) this.queue.due(account, 0);
  }

  statusChanged(account: string): void {
    if (this.records.has(account) && !this.publisher.stands(account)) this.queue.due(account, 0);
  }

  mutationChanged(): void {
    this.mutation.sync();
  }

  /** Reconciles the accounts for which a reconcile of the role's trust policy brought news. */
  roleReconciled(role: string): void {
    const { trust } = this;
    const touched = [...this.records.values()].filter(({ trustedBy }) => trustedBy.has(role));
    for (const { account, parts, content, reason } of touched) {
      const isIn = trust.state(role, account) === 'in';
      const problem = trust.problem(role)?.detail;
      const isReported = problem === undefined ? !reason?.code.startsWith('trust_policy_') : reason?.detail === problem;
      const isAsKnown = role === content.roleArn && isIn && isReported && parts.trust_policy === true;
      if (!isAsKnown || reason?.code === 'waiting_for_trust_policy') this.queue.due(account, beforeOthers);
    }
  }

  /** Resolves when nothing is running. Call it after the signal was aborted. */
  async idle(): Promise<void> {
    await this.searching;
    await this.queue.idle();
    await this.mutation.idle();
  }

  private accounts(): Set<string> {
    return new Set([...this.options.identities.current().byAccount.keys(), ...this.records.keys()]);
  }

  private createMutationKeeper(mayWrite: () => boolean): MutationKeeper {
    const { options, records } = this;
    return new MutationKeeper({
      ...options,
      watched: options.mutation,
      // A user whose mapping was deleted, or names another account, loses the account at once, before its reconcile.
      wanted: () => {
        const given = [...records.values()].filter((one) => one.isReady && !isLeft(one, options.identities.current()));
        return new Map(given.map(({ user, account }) => [user, account]));
      },
      mayWrite,
      onChange: () => {
        for (const { account, reason } of records.values())
          if (waitsForMutation.has(reason?.code ?? '')) this.queue.due(account, beforeOthers);
      },
      onDrift: (drift, pauseMs) => {
        options.metrics.drifted('mutation');
        const changed = { configMap: podIdentityConfigMap, reason: 'PodIdentityChanged' } as const;
        recordEvent(options, { ...changed, what: `Mutation ${podIdentityMutation}` }, drift, pauseMs);
      },
    });
  }

  private reconcilerParts(mayWrite: () => boolean) {
    const { options, records, publisher, associations, trust, mutation } = this;
    const deps: PodIdentityReconcileDeps = {
      ...options,
      associations,
      trust,
      mutation,
      publish: (record) => publisher.publish(statusOfRecord(record)),
      mayWrite,
      onDrift: ({ account }, drift, pauseMs) => {
        options.metrics.drifted('account');
        const configMap = options.statuses.get(account)?.configMap;
        const what = `Pod Identity of service account ${account}`;
        recordEvent(options, { configMap, reason: 'PodIdentityChanged', what }, drift, pauseMs);
      },
    };
    return { deps, records, publisher };
  }
}

/** @param isElsewhere whether the role is unmanaged, as any user's mapping may say. */
function sameMapping(record: PodIdentityRecord, mapping: PodIdentityMapping, isElsewhere: boolean): boolean {
  const isSame = record.user === mapping.domino_user && sameContent(record.content, contentOf(mapping));
  return isSame && (record.parts.trust_policy === 'kept_elsewhere') === isElsewhere;
}
