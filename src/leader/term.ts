/** Owns one term of the lease holder: its reactions to each kind of change. */

import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { TimeRange } from '../lib/clock.ts';
import { PodIdentityTerm } from '../pod-identity/controller.ts';
import { RoleController } from '../proxy-roles/controller.ts';
import { recordLeft } from '../proxy-roles/hand-over.ts';
import { Placements } from '../proxy-roles/placements.ts';
import { createProviderAudiences } from '../proxy-roles/provider-audiences.ts';
import type { ProxyRole } from '../proxy-roles/proxy-role.ts';
import { isStillByTokens, stillRequested } from '../proxy-roles/removal-guard.ts';
import {
  compareAnnotation,
  isBackgroundId,
  releaseAnnotation,
  removeAnnotation,
  statusName,
  type TrustStatus,
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

/** The limits on a term's writes: rates, lease and end. */
export interface TermMeans {
  /** The rate limits belong to the AWS account, so they outlive a term. */
  reads: RateLimiter;
  writes: RateLimiter;
  lease: Pick<Lease, 'holds' | 'holdsUntil'>;
  signal: AbortSignal;
  /** For times that must stay right when the clock is set. */
  time: TimeRange;
}

export class Term {
  readonly placements: Placements;
  readonly controller: RoleController;
  readonly siblings: SiblingAccounts;
  readonly tokens: TokenTrusts;
  /** Set once Pod Identity's caches are filled. */
  podIdentities: PodIdentityTerm | undefined;
  private readonly options: LeaderOptions;
  private readonly means: TermMeans;
  private readonly publisher: Publisher<TrustStatus>;
  private readonly view: RequestView;
  /** Service accounts that ever had a request, even if its annotation is gone: release 1.8 did not add them. */
  private readonly everRequested = new Set<string>();
  /** The managed proxy roles when the mappings were last read. */
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
      maxChars: options.config.trustPolicyMaxChars,
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
      lifeMs: options.config.roleTokenSeconds * 1000,
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

  /** Starts Pod Identity when it is ready, unless the term ends first. */
  async startPodIdentities(): Promise<void> {
    const { options, means, placements, controller } = this;
    const { podIdentity } = options;
    const eks = await podIdentity?.ready;
    if (!podIdentity || !eks) return;
    // The previous holder may have acted on mappings that our watch has not seen yet; that must not be undone.
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

  /** Evaluates a service account again after its annotation or its pods changed, or it was deleted. */
  accountChanged(name: string): void {
    this.noteRequest(name);
    // A deleted account is removed from its roles at once. Removals of ended runs are gathered into batches.
    const left = this.options.accounts.get(name) ? [] : this.placements.rolesOf(name);
    this.placements.account(name);
    this.tokens.account(name);
    for (const role of left) this.controller.compare(role);
    this.siblings.changed(name);
  }

  /** Handles a change of a role's status ConfigMap: an edit by hand, or an annotation that requests a comparison. */
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

  /** Evaluates every service account again, and compares the roles that the mappings added or dropped. */
  mappingsChanged(): void {
    const before = this.named;
    this.named = this.options.mappings.current().managedProxies;
    this.placements.all();
    this.tokens.all();
    for (const arn of this.named.symmetricDifference(before)) this.controller.compare(this.placements.role(arn));
  }

  /** Removes members of revoked runs at once, and adds those of runs that are allowed again. */
  revocationsChanged(runs: readonly string[]): void {
    const { placements, controller } = this;
    const { pods, accounts } = this.options;
    placements.all();
    this.tokens.all();
    const leaves = ({ desired, observed }: ProxyRole) =>
      [...observed.members.keys()].some((name) => !desired.members.has(name));
    for (const role of placements.roles()) if (leaves(role)) controller.compare(role, true);
    // No status lists the service accounts that an earlier release added, so all named roles are compared.
    const isEarlier = (run: string) => pods.ofRun(run).some((pod) => accounts.get(pod.account)?.wanted === undefined);
    if (runs.some(isEarlier)) for (const arn of this.named) controller.compare(placements.role(arn), true);
  }

  /** Evaluates every service account and compares every role. */
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
      maxChars: options.config.trustPolicyMaxChars,
      placements,
      mappings: mappings.current,
      publisher: this.publisher,
      isProxy: ({ arn, desired, observed, conditions }) =>
        mappings.current().managedProxies.has(arn) ||
        desired.members.size + observed.members.size + observed.others.size > 0 ||
        // In an unmanaged role the statement belongs to the owner, and must not be removed.
        (desired.tokens !== undefined && !(this.isUnmanaged(arn) && observed.tokens === undefined)) ||
        conditions.unread,
      keep: (account) => !this.everRequested.has(account) && mayBeFromEarlierRelease(account, view),
      audiences: createProviderAudiences({ ...options, ...this.means }),
      isStillByTokens: ({ arn }) => isStillByTokens(kubernetes, arn, view.isRevoked),
      isShutOut: (account) => isShutOut(account, view),
      isInDoubt: () => !pods.isWhole() || !accounts.isWhole(),
      stillRequested: async (role, names) => {
        // Revoked runs are removed on purpose, even while the API server is unavailable.
        const others = names.filter((name) => !isShutOut(name, view));
        return others.length === 0 ? new Set() : stillRequested(kubernetes, role.arn, others, view.isRevoked, log);
      },
      // Reads from the API server: the removal guard exists for when the caches cannot be trusted.
      released: async (role, since) => {
        const status = await kubernetes.getConfigMap(statusName(role.arn)).catch(() => undefined);
        return (status?.annotations[releaseAnnotation] ?? '') >= since;
      },
      onWritten: metrics.written,
      onRevoked: metrics.revoked,
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

  /** Whether an organization's mapping, or a user's Pod Identity mapping, marks the role as unmanaged. */
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
