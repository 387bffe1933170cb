/** Owns the work on each proxy role: one reconcile at a time, all that comes meanwhile joins the next, then the status. */

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
  /** After each publishing: what the role's status says now. */
  published(status: TrustStatus): void;
  /** The role is no longer ours. */
  forgotten(role: string): void;
}

export interface RoleControllerOptions extends RoleReconcileDeps {
  mappings: () => Mappings;
  publisher: Publisher<TrustStatus>;
  metrics: RoleMetrics;
  /** The id of the comparison that was last asked for, see `compareAnnotation`. */
  askedFor: (arn: string) => string | undefined;
  /** Whether a mapping says that the role's trust policy is not managed here. */
  isUnmanaged: (arn: string) => boolean;
  /** Whether an administrator had our subjects removed from a role that is unmanaged from now on. */
  isToBeEmptied: (arn: string) => boolean;
  /** Records that this is done. It never rejects. */
  recordLeft: (arn: string) => Promise<void>;
  /** Whether the Pod Identity mappings are known, beyond what the holder before published. */
  knowsPods: () => boolean;
  /** Called after each reconcile, whatever came of it. */
  onReconciled: (role: ProxyRole) => void;
  signal: AbortSignal;
}

/** Removals are gathered for so long. Additions never wait for it. */
const removalGatherMs = 2_000;
const publishRetryMs = 500;
const firstRetryMs = 400;

interface Reconciled {
  urgent: boolean;
  /** The id of the comparison that was asked for when the reconcile began. */
  asked: string | undefined;
}

export class RoleController {
  private readonly options: RoleControllerOptions;
  /** By the ARN of the role. */
  private readonly work = new Map<string, RoleWork>();
  private readonly queue: ReconcileQueue;

  constructor(options: RoleControllerOptions) {
    this.options = options;
    // The rate limiters say how many calls there are at a time, and which role goes first.
    const how = { of: 'a proxy role', workers: Infinity, reconcile: (arn: string) => this.serve(arn) };
    this.queue = new ReconcileQueue({ ...options, ...how });
  }

  /** A role's members or refusals changed. @param user who waits for it. */
  changed({ arn }: ProxyRole, change: Change, user?: string): void {
    const work = this.workOf(arn);
    if (user !== undefined) work.callers.add(user);
    if (change === 'publish') {
      work.publish = true;
      this.queue.due(arn, 0);
    } else this.due(arn, change === 'add' ? 0 : removalGatherMs, change === 'add');
  }

  /** Compares the role with IAM when the rate limiter allows; before others where a client waits for it. */
  compare({ arn }: ProxyRole, urgent = false): void {
    this.due(arn, 0, urgent);
  }

  /** Whether the role is, or was, one of ours. */
  knows(arn: string): boolean {
    return this.work.has(arn);
  }

  /** Resolves when no reconcile is under way; to be called after the signal was aborted. */
  idle(): Promise<void> {
    return this.queue.idle();
  }

  private workOf(arn: string): RoleWork {
    const found = this.work.get(arn) ?? newRoleWork();
    this.work.set(arn, found);
    return found;
  }

  /** Asks for a reconcile in so many milliseconds, or sooner where one is due sooner. */
  private due(arn: string, afterMs: number, urgent: boolean): void {
    const work = this.workOf(arn);
    work.dueAt = Math.min(work.dueAt, this.options.clock.monotonic() + afterMs);
    work.urgent ||= urgent;
    this.queue.due(arn, afterMs);
  }

  /** The status is published after each reconcile, and also alone while the next one waits. */
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
    // Without members and Pod Identity of ours, the document has nothing to compare.
    if (!role.desired.pods && !isProxy) return;
    // The holder before may have written since it published: what it removed must not be let in again.
    if (!isProxy && !options.knowsPods()) return;
    // The next holder has to know that there is a role to read, also after a write that no status names.
    if (isProxy && !role.conditions.announced && !(await this.announce(role, work, urgent))) return;
    // An expected write takes its call from the rate limiter first, so that the document is read just before it.
    const mayWrite = differs(role) && (await writes.take(urgent, signal, callers));
    const how = { urgent, callers, isHandedOver };
    let outcome = await reconcileRole(options, role, { ...how, mayWrite }, signal);
    if (outcome.kind === 'needs_write' && (await writes.take(urgent, signal, callers))) {
      outcome = await reconcileRole(options, role, { ...how, mayWrite: true }, signal);
    }
    this.finish(role, work, outcome, { urgent, asked });
    if (isHandedOver && outcome.kind === 'done') this.due(role.arn, 0, urgent);
  }

  /** What comes after a reconcile: another one, where one is due; else the comparison that was asked for was made. */
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
      // A refusal of IAM is what the comparison found: asked again at once, IAM would say the same.
      if (outcome.kind !== 'needs_write') conditions.compareId = asked;
      work.failures = 0;
      return;
    }
    this.due(role.arn, backOff(apart(firstRetryMs), work.failures), urgent);
    work.failures += 1;
    if (this.options.signal.aborted) return;
    const about = { role: role.arn, code: outcome.error.code, failures: work.failures, err: outcome.error };
    this.options.log.warn(about, 'IAM did not do it; trying again');
  }

  /** @returns whether the role's status is there; another try is due otherwise. */
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

  /** Whether no mapping names the role any more, and IAM showed no member of ours in it, or the role is gone. */
  private isOver(role: ProxyRole): boolean {
    const { desired, observed, conditions } = role;
    const isUnmanaged = this.options.isUnmanaged(role.arn);
    if (this.options.mappings().managedProxies.has(role.arn) && !isUnmanaged) return false;
    if (conditions.brake || (isUnmanaged && desired.tokens?.granted)) return false;
    // Nothing can be removed from a role that is gone. Any other refusal may end, and the members are in until then.
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
