/** Owns the lease holder's loop: it keeps every proxy role's trust policy as wants, pods and mappings say. */
import { type Assignments, type Change, createAssignments, type ProxyRole } from './assignments.ts';
import { type Budget, createBudget } from './budget.ts';
import type { Clock } from './clock.ts';
import type { Iam } from './iam.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Lease } from './lease.ts';
import type { Log } from './log.ts';
import { type Mappings, mappingConfigMap, parseMappings } from './mappings.ts';
import { createPublisher } from './publisher.ts';
import { newRoleMemory, passOver, type RoleMemory, type RolePassDeps } from './role-pass.ts';
import { allStartedBy, type PodIndex } from './runs.ts';
import type { Statuses } from './statuses.ts';
import type { TrustScope } from './trust-policy.ts';
import type { TrustStatus } from './trust-status.ts';
import { parseWant } from './wants.ts';

export interface WriterMetrics {
  /** After each write: the role, how many accounts it added and removed. */
  written(role: string, added: number, removed: number): void;
  /** After each pass: how full the role is. */
  filled(role: string, members: number, characters: number, allowed: number): void;
  /** The role is none of ours any more. */
  forgotten(role: string): void;
}

export interface WriterOptions {
  kubernetes: Kubernetes;
  iam: Iam;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: Statuses;
  mappings: { current(): Mappings; onChange(listener: () => void): void };
  scope: TrustScope;
  maxChars: number;
  readsPerSecond: number;
  writesPerSecond: number;
  resyncMs: number;
  clock: Clock;
  log: Log;
  metrics: WriterMetrics;
}

/** Removals are gathered for so long; whoever is waiting to get in never waits for it. */
const removalGatherMs = 2_000;
/** A want without a live pod is cleared from an account that lives on, once the pod had time to appear. */
const deadWantMs = 60_000;
const clearedWant = JSON.stringify({ cleared: true });

export interface Writer {
  /** Writes for as long as the lease is held: until `signal` is aborted and what is under way has ended. */
  hold(lease: Pick<Lease, 'holds' | 'holdsUntil'>, signal: AbortSignal): Promise<void>;
}

/** What the loop knows of a role beside its members. */
interface Work {
  memory: RoleMemory;
  /** A pass over IAM is due at this monotonic time; Infinity: none. */
  dueAt: number;
  urgent: boolean;
  publish: boolean;
  failures: number;
  running: boolean;
  wake: AbortController;
}

export function createWriter(options: WriterOptions): Writer {
  const { clock } = options;
  // The budget is the account's: it outlives a tenure.
  const reads = createBudget(options.readsPerSecond, clock);
  const writes = createBudget(options.writesPerSecond, clock);
  let tenure: Tenure | undefined;

  options.accounts.onChange((name) => tenure?.accountChanged(name));
  options.pods.onAccountChange((name) => tenure?.accountChanged(name));
  options.mappings.onChange(() => tenure?.mappingsChanged());

  return {
    hold: async (lease, signal) => {
      tenure = startTenure(options, reads, writes, lease, signal);
      try {
        await tenure.run();
      } finally {
        tenure = undefined;
      }
    },
  };
}

interface Tenure {
  run(): Promise<void>;
  accountChanged(name: string): void;
  mappingsChanged(): void;
}

function startTenure(
  options: WriterOptions,
  reads: Budget,
  writes: Budget,
  lease: Pick<Lease, 'holds' | 'holdsUntil'>,
  signal: AbortSignal,
): Tenure {
  const { clock, log, pods, accounts, statuses, kubernetes } = options;
  const work = new Map<string, Work>();
  const running = new Set<Promise<void>>();
  const publisher = createPublisher(kubernetes, () => lease.holds() && !signal.aborted);
  const assignments: Assignments = createAssignments({
    accounts,
    pods,
    mappings: options.mappings.current,
    computeNamespace: options.scope.namespace,
    monotonic: clock.monotonic,
    onChange: schedule,
  });
  const deps: RolePassDeps = {
    iam: options.iam,
    reads,
    writes,
    assignments,
    scope: options.scope,
    maxChars: options.maxChars,
    clock,
    log,
    lease,
    keep: (account) => {
      const found = accounts.get(account);
      return found !== undefined && found.wanted === undefined && pods.ofAccount(account).length > 0;
    },
    stillWanted: (role, names) => stillWanted(options, role.arn, names),
    onWritten: (role, added, removed) => options.metrics.written(role.arn, added, removed),
  };

  function workOf(arn: string): Work {
    let found = work.get(arn);
    if (!found) {
      const memory = newRoleMemory(options.maxChars);
      const wake = new AbortController();
      found = { memory, dueAt: Infinity, urgent: false, publish: false, failures: 0, running: false, wake };
      work.set(arn, found);
    }
    return found;
  }

  function schedule(role: ProxyRole, change: Change): void {
    const at = workOf(role.arn);
    if (change === 'publish') at.publish = true;
    else due(role.arn, change === 'add' ? 0 : removalGatherMs, change === 'add');
    start(role);
  }

  /** Asks for a pass over the role in so many milliseconds, or sooner where one is due sooner. */
  function due(arn: string, afterMs: number, urgent: boolean): void {
    const at = workOf(arn);
    at.dueAt = Math.min(at.dueAt, clock.monotonic() + afterMs);
    at.urgent ||= urgent;
  }

  function start(role: ProxyRole): void {
    const at = workOf(role.arn);
    at.wake.abort();
    if (at.running || signal.aborted) return;
    at.running = true;
    const loop = serve(role, at)
      .catch((error: unknown) => log.error({ err: error, role: role.arn }, 'a pass over a proxy role failed'))
      .finally(() => {
        at.running = false;
        running.delete(loop);
        if (at.publish || at.dueAt < Infinity) start(role);
      });
    running.add(loop);
  }

  /** One role's queue: one pass at a time, and all that came meanwhile joins the next. */
  async function serve(role: ProxyRole, at: Work): Promise<void> {
    while (!signal.aborted && (at.publish || at.dueAt < Infinity)) {
      const wait = at.publish ? 0 : at.dueAt - clock.monotonic();
      if (wait > 0) {
        at.wake = new AbortController();
        await clock.sleep(wait, AbortSignal.any([at.wake.signal, signal]));
        continue;
      }
      if (at.dueAt <= clock.monotonic()) await pass(role, at);
      if (signal.aborted) return;
      await publish(role, at);
    }
  }

  async function pass(role: ProxyRole, at: Work): Promise<void> {
    const named = options.mappings.current().managedProxies.has(role.arn);
    const urgent = at.urgent;
    at.dueAt = Infinity;
    at.urgent = false;
    at.publish = true;
    if (!named && keptBySomebodyElse(options.mappings.current(), role.arn)) return;
    const differs = role.members.size !== role.accepted.size || [...role.members].some(([a]) => !role.accepted.has(a));
    const mayWrite = differs && (await writes.take(urgent, signal));
    if (signal.aborted) return;
    let outcome = await passOver(deps, role, at.memory, { mayWrite, urgent }, signal);
    if (outcome.kind === 'needs_write' && (await writes.take(urgent, signal))) {
      outcome = await passOver(deps, role, at.memory, { mayWrite: true, urgent }, signal);
    }
    if (outcome.kind === 'failed' && outcome.error.transient) {
      at.failures += 1;
      const pause = Math.min(30_000, 200 * 2 ** at.failures) * (0.5 + Math.random() / 2);
      const { code } = outcome.error;
      if (!signal.aborted)
        log.warn({ role: role.arn, code, failures: at.failures, err: outcome.error }, 'IAM did not do it');
      due(role.arn, pause, urgent);
      return;
    }
    at.failures = 0;
    if (outcome.kind === 'again') due(role.arn, outcome.afterMs, urgent);
  }

  async function publish(role: ProxyRole, at: Work): Promise<void> {
    at.publish = false;
    const { memory } = at;
    const named = options.mappings.current().managedProxies.has(role.arn);
    try {
      if (
        !named &&
        (role.accepted.size === 0 || role.error || keptBySomebodyElse(options.mappings.current(), role.arn))
      ) {
        await publisher.withdraw(role.arn);
        options.metrics.forgotten(role.arn);
        if (role.members.size > 0) return;
        assignments.forget(role.arn);
        work.delete(role.arn);
        return;
      }
      await publisher.publish(statusOf(role, memory));
      options.metrics.filled(role.arn, role.accepted.size, memory.size, memory.maxChars);
    } catch (error) {
      if (signal.aborted || !lease.holds()) return;
      log.warn({ err: error, role: role.arn }, 'the trust status was not published; trying again');
      await clock.sleep(500, signal);
      at.publish = true;
    }
  }

  /** Every role that a mapping names, and those that one named before. */
  function compareAll(): void {
    const named = options.mappings.current().managedProxies;
    const roles = new Set([...named, ...[...assignments.roles()].map(({ arn }) => arn)]);
    for (const arn of roles) {
      due(arn, 0, false);
      start(assignments.role(arn));
    }
  }

  function takeOver(): void {
    for (const { status } of statuses.all()) {
      const role = assignments.role(status.role_arn);
      role.accepted = new Map(Object.entries(status.members));
      const { memory } = workOf(role.arn);
      memory.size = status.characters_used;
      memory.writtenAt = status.written_at;
      // The holder before us may have written seconds ago: what IAM shows now may be older than that.
      memory.lastWrite = { accounts: new Set(role.accepted.keys()), at: clock.monotonic() };
    }
    assignments.all();
    compareAll();
  }

  /** Takes wants without a live pod off accounts that live on, so that nobody finds them there later. */
  async function clearDeadWants(): Promise<void> {
    for (const { name, wanted, resourceVersion } of [...accounts.values()]) {
      const want = parseWant(wanted);
      if (!want || pods.ofAccount(name).length > 0 || clock.now() - Date.parse(want.at) < deadWantMs) continue;
      if (signal.aborted || !lease.holds()) return;
      await kubernetes.setWanted(name, clearedWant, resourceVersion).catch((error: unknown) => {
        log.info({ err: error, account: name }, 'the want of an ended run was not cleared; trying again later');
      });
    }
  }

  return {
    accountChanged: (name) => assignments.account(name),
    mappingsChanged: () => {
      assignments.all();
      compareAll();
    },
    run: async () => {
      takeOver();
      while (!signal.aborted) {
        await clock.sleep(options.resyncMs, signal);
        if (signal.aborted) break;
        for (const role of assignments.roles()) if (role.error) role.error.until = 0;
        assignments.all();
        compareAll();
        await clearDeadWants();
      }
      await Promise.all(running);
    },
  };
}

function statusOf(role: ProxyRole, memory: RoleMemory): TrustStatus {
  return {
    role_arn: role.arn,
    members: Object.fromEntries(role.accepted),
    refused: role.refused,
    characters_used: memory.size,
    characters_allowed: memory.maxChars,
    ...(memory.writtenAt === undefined ? {} : { written_at: memory.writtenAt }),
    ...(memory.comparedAt === undefined ? {} : { compared_at: memory.comparedAt }),
    ...(role.error ? { error: { code: role.error.code, detail: role.error.detail, at: role.error.at } } : {}),
  };
}

/** A mapping names the proxy and says that its trust policy is not ours. */
function keptBySomebodyElse(mappings: Mappings, arn: string): boolean {
  if (mappings.managedProxies.has(arn)) return false;
  return [...mappings.byOrg.values()].some((list) => list.some((mapping) => mapping.proxy_iam_role_arn === arn));
}

/** Asks the API server, past every cache, which of these accounts belong in the role after all. Invariant 3. */
async function stillWanted(
  options: WriterOptions,
  role: string,
  names: readonly string[],
): Promise<ReadonlySet<string>> {
  let pods: Awaited<ReturnType<Kubernetes['listPods']>>;
  let accounts: ServiceAccount[];
  let mappings: Mappings;
  try {
    [pods, accounts] = await Promise.all([options.kubernetes.listPods(), options.kubernetes.listServiceAccounts()]);
    mappings = parseMappings((await options.kubernetes.getConfigMap(mappingConfigMap))?.data ?? {});
  } catch (error) {
    options.log.warn({ err: error, role }, 'the API server could not be asked: dropping nobody');
    return new Set(names);
  }
  const asked = new Set(names);
  const belongs = accounts.filter(({ name, wanted }) => {
    if (!asked.has(name)) return false;
    const live = pods.filter((pod) => pod.live && pod.account === name);
    if (wanted === undefined) return live.length > 0;
    const want = parseWant(wanted);
    if (!want || !allStartedBy(live, want.user.id)) return false;
    return want.roles.some(({ target, proxies }) =>
      proxies.some(({ arn, org }) => arn === role && mappings.allows(org, target, arn)),
    );
  });
  return new Set(belongs.map(({ name }) => name));
}
