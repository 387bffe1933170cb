/** Owns the lease holder's tenure: it takes over what is published, follows what changes, and compares all in turn. */
import { type Assignments, createAssignments } from './assignments.ts';
import { type Budget, createBudget } from './budget.ts';
import type { Clock } from './clock.ts';
import { stillWanted } from './fresh-look.ts';
import type { Iam } from './iam.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Lease } from './lease.ts';
import type { Log } from './log.ts';
import type { Mappings } from './mappings.ts';
import { createPublisher } from './publisher.ts';
import { createRoleQueue, type QueueMetrics, type RoleQueue } from './role-queue.ts';
import type { PodIndex } from './runs.ts';
import type { Statuses } from './statuses.ts';
import type { TrustScope } from './trust-policy.ts';
import { parseWant } from './wants.ts';

export interface WriterMetrics extends QueueMetrics {
  /** After each write: the role, how many accounts it added and removed. */
  written(role: string, added: number, removed: number): void;
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

export interface Writer {
  /** Writes for as long as the lease is held: until `signal` is aborted and what is under way has ended. */
  hold(lease: Pick<Lease, 'holds' | 'holdsUntil'>, signal: AbortSignal): Promise<void>;
}

/** A want without a live pod is cleared from an account that lives on, once the pod had time to appear. */
const deadWantMs = 60_000;
/** Not the lack of an annotation, which would say that an earlier release let the account in. */
const clearedWant = JSON.stringify({ cleared: true });

/** The caches given must have synced before `hold` is called. Invariant 3. */
export function createWriter(options: WriterOptions): Writer {
  const { clock } = options;
  // The budget is the AWS account's: it outlives a tenure.
  const reads = createBudget(options.readsPerSecond, clock);
  const writes = createBudget(options.writesPerSecond, clock);
  let tenure: Tenure | undefined;

  options.accounts.onChange((name) => tenure?.assignments.account(name));
  options.pods.onAccountChange((name) => tenure?.assignments.account(name));
  options.mappings.onChange(() => tenure?.mappingsChanged());

  return {
    hold: async (lease, signal) => {
      tenure = startTenure(options, reads, writes, lease, signal);
      try {
        takeOver(options, tenure);
        while (!signal.aborted) {
          await clock.sleep(options.resyncMs, signal);
          if (!signal.aborted) await resync(options, tenure, () => lease.holds() && !signal.aborted);
        }
        await tenure.queue.idle();
      } finally {
        tenure = undefined;
      }
    },
  };
}

interface Tenure {
  assignments: Assignments;
  queue: RoleQueue;
  /** Looks at every account and every role anew. */
  compareAll(): void;
  /** Looks at every account anew, and at the roles that came into the mappings or went out of them. */
  mappingsChanged(): void;
}

function startTenure(
  options: WriterOptions,
  reads: Budget,
  writes: Budget,
  lease: Pick<Lease, 'holds' | 'holdsUntil'>,
  signal: AbortSignal,
): Tenure {
  const { clock, log, pods, accounts, kubernetes, metrics } = options;
  const assignments = createAssignments({
    accounts,
    pods,
    mappings: options.mappings.current,
    computeNamespace: options.scope.namespace,
    monotonic: () => clock.monotonic(),
    onChange: (role, change) => queue.changed(role, change),
  });
  const queue: RoleQueue = createRoleQueue({
    pass: {
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
      stillWanted: (role, names) => stillWanted(kubernetes, role.arn, names, log),
      onWritten: (role, added, removed) => metrics.written(role.arn, added, removed),
    },
    assignments: () => assignments,
    mappings: options.mappings.current,
    publisher: createPublisher(kubernetes, () => lease.holds() && !signal.aborted),
    clock,
    log,
    metrics,
    signal,
  });
  let named: ReadonlySet<string> = new Set();
  return {
    assignments,
    queue,
    mappingsChanged: () => {
      const before = named;
      named = options.mappings.current().managedProxies;
      assignments.all();
      for (const arn of named.symmetricDifference(before)) queue.compare(assignments.role(arn));
    },
    compareAll: () => {
      named = options.mappings.current().managedProxies;
      assignments.all();
      const known = new Set([...assignments.roles()].map(({ arn }) => arn));
      for (const arn of named.union(known)) queue.compare(assignments.role(arn));
    },
  };
}

/** Starts from what the holder before published: who is in, and where. */
function takeOver({ statuses, clock }: WriterOptions, { assignments, queue, compareAll }: Tenure): void {
  for (const { status } of statuses.all()) {
    const role = assignments.role(status.role_arn);
    role.accepted = new Map(Object.entries(status.members));
    const memory = queue.memory(role.arn);
    memory.size = status.characters_used;
    memory.writtenAt = status.written_at;
    // The holder before may have written seconds ago: what IAM shows now may be older than that.
    memory.lastWrite = { accounts: new Set(role.accepted.keys()), at: clock.monotonic() };
  }
  compareAll();
}

/** The full comparison that comes round every while, with another chance for roles that could not be written. */
async function resync(
  options: WriterOptions,
  { assignments, compareAll }: Tenure,
  holds: () => boolean,
): Promise<void> {
  for (const role of assignments.roles()) if (role.error) role.error.until = Number.NEGATIVE_INFINITY;
  compareAll();
  await clearDeadWants(options, holds);
}

/** Takes wants without a live pod off accounts that live on, so that no later run finds them there. */
async function clearDeadWants(options: WriterOptions, holds: () => boolean): Promise<void> {
  const { accounts, pods, clock, kubernetes, log } = options;
  for (const { name, wanted, resourceVersion } of [...accounts.values()]) {
    const want = parseWant(wanted);
    if (!want || pods.ofAccount(name).length > 0 || clock.now() - Date.parse(want.at) < deadWantMs) continue;
    if (!holds()) return;
    await kubernetes.setWanted(name, clearedWant, resourceVersion).catch((error: unknown) => {
      log.info({ err: error, account: name }, 'the want of an ended run was not cleared; trying again later');
    });
  }
}
