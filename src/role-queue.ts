/** Owns the work on each proxy role: one pass at a time, all that comes meanwhile joins the next, then the status. */
import type { Assignments, Change, ProxyRole } from './assignments.ts';
import type { Clock } from './clock.ts';
import type { Log } from './log.ts';
import type { Mappings } from './mappings.ts';
import { samePodTrust } from './pod-trust.ts';
import type { Publisher } from './publisher.ts';
import { newRoleMemory, type RoleMemory } from './role-memory.ts';
import { passOver, type RolePassDeps } from './role-pass.ts';
import { statusOf } from './role-status.ts';
import type { TrustStatus } from './trust-status.ts';

export interface QueueMetrics {
  /** After each publishing: what the role's status says now. */
  published(status: TrustStatus): void;
  /** The role is none of ours any more. */
  forgotten(role: string): void;
}

export interface RoleQueueOptions {
  pass: RolePassDeps;
  assignments: () => Assignments;
  mappings: () => Mappings;
  publisher: Publisher<TrustStatus>;
  clock: Clock;
  log: Log;
  metrics: QueueMetrics;
  /** The id of the comparison that was last asked for, see `compareAnnotation`. */
  askedFor: (arn: string) => string | undefined;
  /** Whether a mapping says that somebody else keeps the role's trust policy. */
  isKeptElsewhere: (arn: string) => boolean;
  /** Whether it is known whom EKS Pod Identity is to assume roles for, and not just whom the holder before let in. */
  knowsPods: () => boolean;
  /** Told after each pass, whatever came of it. */
  onPassed: (role: ProxyRole) => void;
  signal: AbortSignal;
}

export interface RoleQueue {
  /** A role's members or refusals changed. */
  changed(role: ProxyRole, change: Change): void;
  /** Compares the role with what IAM says, when the budget allows; before others where somebody waits for it. */
  compare(role: ProxyRole, urgent?: boolean): void;
  memory(arn: string): RoleMemory;
  /** Whether the role is, or was, one of ours. */
  knows(arn: string): boolean;
  /** Resolves when no pass is under way; to be asked after the signal was aborted. */
  idle(): Promise<void>;
}

/** Removals are gathered for so long; whoever is waiting to get in never waits for it. */
const removalGatherMs = 2_000;
const publishRetryMs = 500;

interface Work {
  memory: RoleMemory;
  /** When a pass is due, on the monotonic clock; Infinity: none. */
  dueAt: number;
  /** Whether somebody waits for it. */
  urgent: boolean;
  publish: boolean;
  failures: number;
  running: boolean;
  /** Ends the wait for `dueAt`. */
  wake: AbortController;
}

export function createRoleQueue(options: RoleQueueOptions): RoleQueue {
  const { clock, log, publisher, metrics, signal } = options;
  const work = new Map<string, Work>();
  const running = new Set<Promise<void>>();

  function workOf(arn: string): Work {
    let found = work.get(arn);
    if (!found) {
      const memory = newRoleMemory(options.pass.maxChars);
      const wake = new AbortController();
      found = { memory, dueAt: Infinity, urgent: false, publish: false, failures: 0, running: false, wake };
      work.set(arn, found);
    }
    return found;
  }

  /** Asks for a pass in so many milliseconds, or sooner where one is due sooner. */
  function due(at: Work, afterMs: number, urgent: boolean): void {
    at.dueAt = Math.min(at.dueAt, clock.monotonic() + afterMs);
    at.urgent ||= urgent;
  }

  function start(role: ProxyRole): void {
    const at = workOf(role.arn);
    at.wake.abort();
    if (at.running || signal.aborted) return;
    at.running = true;
    const loop = serve(role, at)
      .catch((error: unknown) => {
        log.error({ err: error, role: role.arn }, 'a pass over a proxy role failed; it is tried again');
        due(at, 5_000, at.urgent);
      })
      .finally(() => {
        at.running = false;
        running.delete(loop);
        if (at.publish || at.dueAt < Infinity) start(role);
      });
    running.add(loop);
  }

  async function serve(role: ProxyRole, at: Work): Promise<void> {
    while (!signal.aborted && (at.publish || at.dueAt < Infinity)) {
      const wait = at.dueAt - clock.monotonic();
      if (wait <= 0) {
        await pass(role, at);
        options.onPassed(role);
      } else if (!at.publish) {
        at.wake = new AbortController();
        await clock.sleep(wait, AbortSignal.any([at.wake.signal, signal]));
        continue;
      }
      if (!signal.aborted) await publish(role, at);
    }
  }

  async function pass(role: ProxyRole, at: Work): Promise<void> {
    const { urgent } = at;
    at.dueAt = Infinity;
    at.urgent = false;
    at.publish = true;
    const asked = options.askedFor(role.arn);
    if (options.isKeptElsewhere(role.arn)) return;
    // Nothing in its document is ours, or not any more: there is nothing to compare.
    const isProxy = options.pass.isProxy(role);
    if (!role.pods && !isProxy) return;
    // The holder before may have written since it published: who left must not be let in again.
    if (!isProxy && !options.knowsPods()) return;
    // Whoever comes after a write that nobody told of is to know that there is a role to look at.
    if (isProxy && !at.memory.announced && !(await announce(role, at, urgent))) return;
    const { writes } = options.pass;
    // Where a write is to be expected, its budget is waited for first, so that the document read is fresh.
    const mayWrite = differs(role) && (await writes.take(urgent, signal));
    let outcome = await passOver(options.pass, role, at.memory, { mayWrite, urgent }, signal);
    if (outcome.kind === 'needs_write' && (await writes.take(urgent, signal))) {
      outcome = await passOver(options.pass, role, at.memory, { mayWrite: true, urgent }, signal);
    }
    if (outcome.kind === 'again') due(at, outcome.afterMs, urgent);
    if (outcome.kind !== 'failed' || !outcome.error.transient) {
      // What IAM refuses is what the comparison found: asked again at once, it would say the same.
      if (outcome.kind !== 'needs_write') at.memory.compareId = asked;
      at.failures = 0;
      return;
    }
    at.failures += 1;
    due(at, Math.min(30_000, 200 * 2 ** at.failures) * (0.5 + Math.random() / 2), urgent);
    if (signal.aborted) return;
    const about = { role: role.arn, code: outcome.error.code, failures: at.failures, err: outcome.error };
    log.warn(about, 'IAM did not do it; trying again');
  }

  /** @returns whether the role's status is there; another try is due otherwise. */
  async function announce(role: ProxyRole, at: Work, urgent: boolean): Promise<boolean> {
    if (isOver(role)) return true;
    await publish(role, at);
    at.publish = true;
    if (!at.memory.announced) due(at, 0, urgent);
    return at.memory.announced;
  }

  async function publish(role: ProxyRole, at: Work): Promise<void> {
    at.publish = false;
    const { memory } = at;
    try {
      if (isOver(role)) {
        memory.announced = false;
        await publisher.withdraw(role.arn);
        metrics.forgotten(role.arn);
        if (role.members.size > 0 || at.dueAt < Infinity) return;
        options.assignments().forget(role.arn);
        work.delete(role.arn);
        return;
      }
      const status = statusOf(role, memory, options.pass.isProxy(role));
      await publisher.publish(status);
      memory.announced = status.proxy === true;
      metrics.published(status);
    } catch (error) {
      if (signal.aborted) return;
      log.warn({ err: error, role: role.arn }, 'the trust status was not published; trying again');
      await clock.sleep(publishRetryMs, signal);
      at.publish = true;
    }
  }

  /** No mapping names it any more, and none of our members is left in it, or can be taken out. */
  function isOver(role: ProxyRole): boolean {
    const isKeptElsewhere = options.isKeptElsewhere(role.arn);
    if (options.mappings().managedProxies.has(role.arn) && !isKeptElsewhere) return false;
    if (workOf(role.arn).memory.brake) return false;
    // What a role trusted that is gone cannot be taken out of it.
    const isGone = role.pods?.accounts.size === 0 && role.error?.code === 'role_not_found';
    const hasPods = role.pods !== undefined && !isGone;
    const isEmpty = role.accepted.size === 0 && !workOf(role.arn).memory.unread;
    return isKeptElsewhere || (!hasPods && (isEmpty || role.error !== undefined));
  }

  return {
    changed: (role, change) => {
      const at = workOf(role.arn);
      if (change === 'publish') at.publish = true;
      else due(at, change === 'add' ? 0 : removalGatherMs, change === 'add');
      start(role);
    },
    compare: (role, urgent = false) => {
      due(workOf(role.arn), 0, urgent);
      start(role);
    },
    memory: (arn) => workOf(arn).memory,
    knows: (arn) => work.has(arn),
    idle: async () => {
      await Promise.all(running);
    },
  };
}

function differs(role: ProxyRole): boolean {
  if (!samePodTrust(role.pods, role.acceptedPods)) return true;
  return role.members.size !== role.accepted.size || [...role.members.keys()].some((name) => !role.accepted.has(name));
}
