/** Owns the controller of proxy roles: runs one reconcile per role at a time, and publishes the role's status after each. */

import { isRefused } from '../kubernetes/transport.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import type { Publisher } from '../reconcile/publisher.ts';
import { apart, backOff, done, ReconcileQueue, type Result, requeue } from '../reconcile/queue.ts';
import { samePodTrust } from '../trust-policy/pod-identity.ts';
import { sameTokenTrust } from '../trust-policy/role-tokens.ts';
import { observeUnmanaged, type ReconcileOutcome } from './observe.ts';
import type { Change } from './placements.ts';
import type { ProxyRole } from './proxy-role.ts';
import { type RoleReconcileDeps, reconcileRole } from './reconcile.ts';
import { statusOf } from './role-status.ts';
import { confirmAfter, newRoleWork, type RoleWork } from './role-work.ts';
import type { TrustStatus } from './status.ts';

export interface RoleMetrics {
  /** Called after a role's status was published. */
  published(status: TrustStatus): void;
  /** Called when the leader stops publishing the role. */
  forgotten(role: string): void;
}

export interface RoleControllerOptions extends RoleReconcileDeps {
  mappings: () => Mappings;
  publisher: Publisher<TrustStatus>;
  metrics: RoleMetrics;
  /** The id of the comparison that was last requested, see `compareAnnotation`. */
  askedFor: (arn: string) => string | undefined;
  /** Whether a mapping says that the role's trust policy is not managed here. */
  isUnmanaged: (arn: string) => boolean;
  /** Whether an administrator requested that our subjects be removed from a role that has become unmanaged. */
  isToBeEmptied: (arn: string) => boolean;
  /** Records that our subjects were removed from such a role. It never rejects. */
  recordLeft: (arn: string) => Promise<void>;
  /** Whether the Pod Identity mappings are known; until then the previous leader's statuses stand in for them. */
  knowsPods: () => boolean;
  /** Called after each reconcile, whatever its outcome. */
  onReconciled: (role: ProxyRole) => void;
  signal: AbortSignal;
}

/** How long removals are collected before a write. Additions never wait for it. */
const removalGatherMs = 2_000;
const publishRetryMs = 500;
const firstRetryMs = 400;

interface Reconciled {
  urgent: boolean;
  /** The id of the comparison that was requested before the reconcile began. */
  asked: string | undefined;
}

export class RoleController {
  private readonly options: RoleControllerOptions;
  /** Keyed by the role's ARN. */
  private readonly work = new Map<string, RoleWork>();
  private readonly queue: ReconcileQueue;

  constructor(options: RoleControllerOptions) {
    this.options = options;
    // The rate limiters say how many calls there are at a time, and which role goes first.
    const how = { of: 'a proxy role', workers: Infinity, reconcile: (arn: string) => this.serve(arn) };
    this.queue = new ReconcileQueue({ ...options, ...how });
  }

  /** Schedules a reconcile after a role's members or refusals changed. @param user the user that waits for it. */
  changed({ arn }: ProxyRole, change: Change, user?: string): void {
    const work = this.workOf(arn);
    if (user !== undefined) work.callers.add(user);
    if (change === 'publish') {
      work.publish = true;
      this.queue.due(arn, 0);
    } else this.due(arn, change === 'add' ? 0 : removalGatherMs, change === 'add');
  }

  /** Schedules a comparison of the role with IAM. @param urgent whether a client waits for it: it then goes first. */
  compare({ arn }: ProxyRole, urgent = false): void {
    this.due(arn, 0, urgent);
  }

  /** Whether the role is managed, or was and is not forgotten yet. */
  knows(arn: string): boolean {
    return this.work.has(arn);
  }

  /** Resolves when no reconcile is running. Call it after the signal was aborted. */
  idle(): Promise<void> {
    return this.queue.idle();
  }

  private workOf(arn: string): RoleWork {
    const found = this.work.get(arn) ?? newRoleWork();
    this.work.set(arn, found);
    return found;
  }

  /** Schedules a reconcile after so many milliseconds, unless an earlier one is already scheduled. */
  private due(arn: string, afterMs: number, urgent: boolean): void {
    const work = this.workOf(arn);
    work.dueAt = Math.min(work.dueAt, this.options.clock.monotonic() + afterMs);
    work.urgent ||= urgent;
    this.queue.due(arn, afterMs);
  }

  /** Reconciles the role where that is due, and publishes its status. A status is published also while a reconcile waits. */
  private async serve(arn: string): Promise<Result> {
    const { placements, clock, signal, onReconciled } = this.options;
    const work = this.work.get(arn);
    if (!work) return done;
    const role = placements.role(arn);
    if (work.dueAt <= clock.monotonic()) {
      await this.reconcile(role, work).catch((error: unknown) => {
        work.dueAt = clock.monotonic();
        throw error;
      });
      if (work.dueAt === Infinity) work.callers.clear();
      onReconciled(role);
    }
    if (work.publish && !signal.aborted) await this.publish(role, work);
    if (work.publish) return requeue(0);
    return work.dueAt === Infinity ? done : requeue(work.dueAt - clock.monotonic());
  }

  private async reconcile(role: ProxyRole, work: RoleWork): Promise<void> {
    const { options } = this;
    const { writes, signal } = options;
    const { urgent, callers } = work;
    work.dueAt = Infinity;
    work.urgent = false;
    work.publish = true;
    const asked = options.askedFor(role.arn);
    const isProxy = options.isProxy(role);
    const isUnmanaged = options.isUnmanaged(role.arn);
    const isHandedOver = isUnmanaged && options.isToBeEmptied(role.arn);
    if (isUnmanaged && !(isHandedOver && isProxy)) {
      if (this.isOver(role)) return;
      if (isHandedOver) await options.recordLeft(role.arn);
      this.finish(role, work, await observeUnmanaged(options, role, signal), { urgent, asked });
      return;
    }
    // The document has nothing of ours to compare: no members and no Pod Identity.
    if (!role.desired.pods && !isProxy) return;
    // The previous leader may have written after it published: an account that it removed must not be added again.
    if (!isProxy && !options.knowsPods()) return;
    // Published before the first write, so that the next leader reads the role even if this one ends before its next status.
    if (isProxy && !role.conditions.announced && !(await this.announce(role, work, urgent))) return;
    // An expected write waits for the rate limiter before the read, so that the document is read just before the write.
    const mayWrite = differs(role) && (await writes.take(urgent, signal, callers));
    const how = { urgent, callers, isHandedOver };
    let outcome = await reconcileRole(options, role, { ...how, mayWrite }, signal);
    if (outcome.kind === 'needs_write' && (await writes.take(urgent, signal, callers))) {
      outcome = await reconcileRole(options, role, { ...how, mayWrite: true }, signal);
    }
    this.finish(role, work, outcome, { urgent, asked });
    if (isHandedOver && outcome.kind === 'done') this.due(role.arn, 0, urgent);
  }

  /** Schedules the next reconcile where the outcome needs one; otherwise records that the requested comparison was made. */
  private finish(role: ProxyRole, work: RoleWork, outcome: ReconcileOutcome, { urgent, asked }: Reconciled): void {
    const { conditions } = role;
    if (outcome.kind === 'again') this.due(role.arn, outcome.afterMs, urgent);
    if (outcome.kind === 'done' && !outcome.read && asked !== undefined && asked !== conditions.compareId) {
      const afterMs = confirmAfter(work);
      if (afterMs !== undefined) this.due(role.arn, afterMs, urgent);
      work.failures = 0;
      return;
    }
    work.unconfirmed = 0;
    if (outcome.kind !== 'failed' || !outcome.error.transient) {
      // A refusal by IAM is the result of the comparison: an immediate retry would get the same answer.
      if (outcome.kind !== 'needs_write') conditions.compareId = asked;
      work.failures = 0;
      return;
    }
    this.due(role.arn, backOff(apart(firstRetryMs), work.failures), urgent);
    work.failures += 1;
    if (this.options.signal.aborted) return;
    const about = { role: role.arn, code: outcome.error.code, failures: work.failures, err: outcome.error };
    this.options.log.warn(about, 'the call to IAM failed; trying again');
  }

  /** Publishes the role before its first write. @returns whether the reconcile may go on; otherwise a retry is scheduled. */
  private async announce(role: ProxyRole, work: RoleWork, urgent: boolean): Promise<boolean> {
    if (this.isOver(role)) return true;
    await this.publish(role, work);
    work.publish = true;
    if (!role.conditions.announced) this.due(role.arn, 0, urgent);
    return role.conditions.announced;
  }

  private async publish(role: ProxyRole, work: RoleWork): Promise<void> {
    const { publisher, metrics, clock, log, signal } = this.options;
    work.publish = false;
    try {
      if (this.isOver(role)) return await this.withdraw(role, work);
      const isUnmanaged = this.options.isUnmanaged(role.arn);
      const status = statusOf(role, { isProxy: this.options.isProxy(role), isUnmanaged });
      await publisher.publish(status);
      role.conditions.announced = status.proxy === true;
      metrics.published(status);
    } catch (error) {
      if (signal.aborted) return;
      const about = { err: error, role: role.arn };
      log[isRefused(error) ? 'error' : 'warn'](about, 'the trust status was not published; trying again');
      await clock.sleep(publishRetryMs, signal);
      work.publish = true;
    }
  }

  private async withdraw(role: ProxyRole, work: RoleWork): Promise<void> {
    role.conditions.announced = false;
    await this.options.publisher.withdraw(role.arn);
    this.options.metrics.forgotten(role.arn);
    if (role.desired.members.size > 0 || work.dueAt < Infinity) return;
    this.options.placements.forget(role.arn);
    this.work.delete(role.arn);
  }

  /** Whether to forget the role: no mapping names it, and IAM shows nothing of ours in it or no longer has the role. */
  private isOver(role: ProxyRole): boolean {
    const { desired, observed, conditions } = role;
    const isUnmanaged = this.options.isUnmanaged(role.arn);
    if (this.options.mappings().managedProxies.has(role.arn) && !isUnmanaged) return false;
    if (conditions.brake || (isUnmanaged && desired.tokens?.granted)) return false;
    // A deleted role has nothing to remove. Any other refusal may end, and the document has the members until then.
    const isGone = conditions.error?.code === 'role_not_found';
    const hasPods = desired.pods !== undefined && !(desired.pods.accounts.size === 0 && isGone);
    const hasTokens = !isGone && (observed.tokens?.granted || (observed.tokens?.denied.size ?? 0) > 0);
    const isEmpty = observed.members.size === 0 && observed.others.size === 0 && !conditions.unread;
    return (isUnmanaged || (!hasPods && !hasTokens)) && (isEmpty || isGone);
  }
}

function differs({ desired, observed }: ProxyRole): boolean {
  if (!samePodTrust(desired.pods, observed.pods) || !sameTokenTrust(desired.tokens, observed.tokens)) return true;
  const { members } = desired;
  return members.size !== observed.members.size || [...members.keys()].some((name) => !observed.members.has(name));
}
