/** Owns one term of the lease holder: what it does when something changes. */

import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { TimeRange } from '../lib/clock.ts';
import { PodIdentityTerm } from '../pod-identity/controller.ts';
import { RoleController } from '../proxy-roles/controller.ts';
import { recordLeft } from '../proxy-roles/hand-over.ts';
import { Placements } from '../proxy-roles/placements.ts';
import { createProviderAudiences } from '../proxy-roles/provider-audiences.ts';
import type { ProxyRole } from '../proxy-roles/proxy-role.ts';
import { isStillByTokens, stillRequested } from '../proxy-roles/removal-guard.ts';
import type { TrustStatus } from '../proxy-roles/status.ts';
import {
  compareAnnotation,
  isBackgroundId,
  releaseAnnotation,
  removeAnnotation,
  statusName,
  trustStatusForm,
} from '../proxy-roles/status.ts';
import { TokenTrusts } from '../proxy-roles/token-trusts.ts';
import type { Drift } from '../reconcile/drift.ts';
import { recordEvent } from '../reconcile/events.ts';
import { createPublisher, type Publisher } from '../reconcile/publisher.ts';
import { isShutOut, mayBeFromEarlierRelease, type RequestView } from '../runs/effective-request.ts';
import { createSiblingAccounts, type SiblingAccounts } from '../runs/sibling-accounts.ts';
import type { Lease } from './lease.ts';
import type { LeaderOptions } from './options.ts';

/** What a term may write with, and until when. */
export interface TermMeans {
  /** The rate limiters are the AWS account's: they outlive a term. */
  reads: RateLimiter;
  writes: RateLimiter;
  lease: Pick<Lease, 'holds' | 'holdsUntil'>;
  signal: AbortSignal;
  /** For what has to outlast a clock that was set. */
  time: TimeRange;
}

export class Term {
  readonly placements: Placements;
  readonly controller: RoleController;
  readonly siblings: SiblingAccounts;
  readonly tokens: TokenTrusts;
  /** From when its caches are filled. */
  podIdentities: PodIdentityTerm | undefined;
  private readonly options: LeaderOptions;
  private readonly means: TermMeans;
  private readonly publisher: Publisher<TrustStatus>;
  private readonly view: RequestView;
  /** Service accounts that carried a request once: an earlier release did not let them in, whatever became of the annotation. */
  private readonly everRequested = new Set<string>();
  /** The managed proxy roles that the mappings named last. */
  private named: ReadonlySet<string> = new Set();

  constructor(options: LeaderOptions, means: TermMeans) {
    const { clock, log, pods, accounts, statuses, kubernetes, mappings } = options;
    const mayWrite = () => means.lease.holds() && !means.signal.aborted;
    this.options = options;
    this.means = means;
    this.view = { accounts, pods, isRevoked: options.revocations.isRevoked };
    this.publisher = createPublisher(trustStatusForm, kubernetes, statuses, mayWrite);
    this.placements = new Placements({
      ...this.view,
      accounts,
      mappings: mappings.current,
      maxChars: options.maxChars,
      computeNamespace: options.scope.namespace,
      monotonic: () => clock.monotonic(),
      onChange: (role, change, user) => this.controller.changed(role, change, user),
    });
    this.tokens = new TokenTrusts({
      view: this.view,
      names: () => [...accounts.values()].flatMap(({ name, wanted }) => (wanted === undefined ? [] : name)),
      mappings: mappings.current,
      revocations: options.revocations.current,
      isUnmanaged: (arn) => this.isUnmanaged(arn),
      lifeMs: options.roleTokenSeconds * 1000,
      time: means.time,
      role: (arn) => this.placements.role(arn),
      roles: () => this.placements.roles(),
      onChange: (role) => this.controller.changed(role, 'add'),
    });
    this.controller = this.createController();
    this.siblings = createSiblingAccounts({ accounts, pods, kubernetes, mayWrite, clock, log });
    for (const { name } of accounts.values()) this.noteRequest(name);
    for (const { status } of statuses.all()) {
      for (const name of Object.keys(status.members)) this.everRequested.add(name);
    }
  }

  /** Starts Pod Identity when it is ready, unless the term ends before. */
  async startPodIdentities(): Promise<void> {
    const { options, means, placements, controller } = this;
    const { podIdentity } = options;
    const eks = await podIdentity?.ready;
    if (!podIdentity || !eks) return;
    // The holder before may have acted on mappings that our watch does not have yet: that is not to be undone.
    await podIdentity.identities.caughtUp(means.signal);
    if (means.signal.aborted) return;
    this.podIdentities = new PodIdentityTerm({
      ...podIdentity,
      ...means,
      eks,
      kubernetes: options.kubernetes,
      accounts: options.accounts,
      pods: options.pods,
      isUnmanaged: (arn) => this.isUnmanaged(arn),
      role: (arn) => placements.role(arn),
      roles: () => placements.roles(),
      roleChanged: (role) => controller.changed(role, 'add'),
      clock: options.clock,
      log: options.log,
    });
    for (const role of placements.roles()) if (role.desired.pods) controller.compare(role);
  }

  /** Looks at a service account anew, after its annotation or its pods changed, or it was deleted. */
  accountChanged(name: string): void {
    this.noteRequest(name);
    // What a deleted account had goes at once; an ended run's is gathered with others'.
    const left = this.options.accounts.get(name) ? [] : this.placements.rolesOf(name);
    this.placements.account(name);
    this.tokens.account(name);
    for (const role of left) this.controller.compare(role);
    this.siblings.changed(name);
  }

  /** A role's status ConfigMap changed: perhaps by hand, perhaps to ask for a comparison. */
  statusChanged(arn: string): void {
    const { controller } = this;
    if (!controller.knows(arn)) return;
    const role = this.placements.role(arn);
    if (!this.publisher.stands(arn)) controller.changed(role, 'publish');
    const { conditions } = role;
    const { compareId, brake } = conditions;
    const asked = this.annotation(arn, compareAnnotation);
    const compare = asked !== undefined && asked !== compareId;
    const isReleased = brake !== undefined && (this.annotation(arn, releaseAnnotation) ?? '') >= brake.since;
    const toBeEmptied = this.isToBeEmptied(arn) && this.isUnmanaged(arn);
    if (toBeEmptied && !conditions.isBeingEmptied) controller.compare(role, true);
    conditions.isBeingEmptied = toBeEmptied;
    if (compare || isReleased) controller.compare(role, isReleased || !isBackgroundId(asked ?? ''));
  }

  /** Looks at every service account anew, and at the roles that came into the mappings or left them. */
  mappingsChanged(): void {
    const before = this.named;
    this.named = this.options.mappings.current().managedProxies;
    this.placements.all();
    this.tokens.all();
    for (const arn of this.named.symmetricDifference(before)) this.controller.compare(this.placements.role(arn));
  }

  /** Removes the members that were revoked, at once, and lets in again those that were allowed. */
  revocationsChanged(runs: readonly string[]): void {
    const { placements, controller } = this;
    const { pods, accounts } = this.options;
    placements.all();
    this.tokens.all();
    const leaves = ({ desired, observed }: ProxyRole) =>
      [...observed.members.keys()].some((name) => !desired.members.has(name));
    for (const role of placements.roles()) if (leaves(role)) controller.compare(role, true);
    // No role has a record of the service accounts that an earlier release let in.
    const isEarlier = (run: string) => pods.ofRun(run).some((pod) => accounts.get(pod.account)?.wanted === undefined);
    if (runs.some(isEarlier)) for (const arn of this.named) controller.compare(placements.role(arn), true);
  }

  /** Looks at every service account and every role anew. */
  compareAll(): void {
    this.named = this.options.mappings.current().managedProxies;
    this.placements.all();
    this.tokens.all();
    const known = new Set([...this.placements.roles()].map(({ arn }) => arn));
    for (const arn of this.named.union(known)) this.controller.compare(this.placements.role(arn));
    this.siblings.all();
  }

  private createController(): RoleController {
    const { options, view, placements } = this;
    const { kubernetes, log, accounts, pods, mappings, metrics } = options;
    return new RoleController({
      ...options,
      ...this.means,
      placements,
      mappings: mappings.current,
      publisher: this.publisher,
      isProxy: ({ arn, desired, observed, conditions }) =>
        mappings.current().managedProxies.has(arn) ||
        desired.members.size + observed.members.size + observed.others.size > 0 ||
        // Elsewhere the statement is the owner's, and never ours to take out.
        (desired.tokens !== undefined && !(this.isUnmanaged(arn) && observed.tokens === undefined)) ||
        conditions.unread,
      keep: (account) => !this.everRequested.has(account) && mayBeFromEarlierRelease(account, view),
      audiences: createProviderAudiences({ ...options, ...this.means }),
      isStillByTokens: ({ arn }) => isStillByTokens(kubernetes, arn, view.isRevoked),
      isShutOut: (account) => isShutOut(account, view),
      isInDoubt: () => !pods.isWhole() || !accounts.isWhole(),
      stillRequested: async (role, names) => {
        // Revoked runs are dropped on purpose, also while the API server cannot be asked.
        const others = names.filter((name) => !isShutOut(name, view));
        return others.length === 0 ? new Set() : stillRequested(kubernetes, role.arn, others, view.isRevoked, log);
      },
      // The API server itself is asked: the guard is for when the caches cannot be believed.
      released: async (role, since) => {
        const status = await kubernetes.getConfigMap(statusName(role.arn)).catch(() => undefined);
        return (status?.annotations[releaseAnnotation] ?? '') >= since;
      },
      onWritten: (role, added, removed) => metrics.written(role.arn, added, removed),
      onRevoked: (_role, seconds) => metrics.revoked(seconds),
      onDrift: (role, drift, pauseMs) => this.drifted(role, drift, pauseMs),
      askedFor: (arn) => this.annotation(arn, compareAnnotation),
      isUnmanaged: (arn) => this.isUnmanaged(arn),
      isToBeEmptied: (arn) => this.isToBeEmptied(arn),
      recordLeft: (arn) => recordLeft(options, arn),
      knowsPods: () => this.podIdentities !== undefined,
      onReconciled: (role) => this.podIdentities?.roleReconciled(role.arn),
    });
  }

  private drifted(role: ProxyRole, drift: Drift, pauseMs: number): void {
    this.options.metrics.drifted(role.arn);
    const what = `The trust policy of ${role.arn}`;
    const configMap = this.options.statuses.get(role.arn)?.configMap;
    recordEvent(this.options, { configMap, reason: 'TrustPolicyChanged', what }, drift, pauseMs);
  }

  private annotation(arn: string, name: string): string | undefined {
    return this.options.statuses.get(arn)?.annotations[name];
  }

  private isToBeEmptied(arn: string): boolean {
    return this.annotation(arn, removeAnnotation) === 'true';
  }

  /** Whether an organization's mapping, or a user's, says that the role's trust policy is not managed here. */
  private isUnmanaged(arn: string): boolean {
    const { mappings, podIdentity } = this.options;
    return (
      mappings.current().unmanagedProxies.has(arn) || podIdentity?.identities.current().unmanagedRoles.has(arn) === true
    );
  }

  private noteRequest(name: string): void {
    if (this.options.accounts.get(name)?.wanted !== undefined) this.everRequested.add(name);
  }
}
