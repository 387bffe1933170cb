/** Owns one tenure of the lease holder: what it does when something changes. */
import { type Assignments, createAssignments, type ProxyRole } from './assignments.ts';
import type { Budget } from './budget.ts';
import type { Clock } from './clock.ts';
import { stillWanted } from './fresh-look.ts';
import { tellOfDrift } from './housekeeping.ts';
import type { Iam } from './iam.ts';
import type { Kubernetes, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import { createLateAccounts, type LateAccounts } from './late-accounts.ts';
import type { Lease } from './lease.ts';
import type { Log } from './log.ts';
import type { Mappings } from './mappings.ts';
import { type PodIdentitySources, type PodIdentityTenure, startPodIdentityTenure } from './pod-identity-writer.ts';
import { createPublisher } from './publisher.ts';
import type { Revocations } from './revocations.ts';
import { createRoleQueue, type QueueMetrics, type RoleQueue } from './role-queue.ts';
import { allStartedBy, type PodIndex } from './runs.ts';
import type { TrustScope } from './trust-policy.ts';
import type { TrustStatuses } from './trust-status.ts';
import { compareAnnotation, releaseAnnotation, statusName, trustStatusForm } from './trust-status.ts';

export interface WriterMetrics extends QueueMetrics {
  /** After each write: the role, how many accounts it added and removed. */
  written(role: string, added: number, removed: number): void;
  /** Seconds from the end of what entitled an account to the write without it. */
  revoked(seconds: number): void;
  /** A trust policy was found changed by somebody else. */
  drifted(role: string): void;
}

export interface WriterOptions {
  kubernetes: Kubernetes;
  iam: Iam;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  mappings: { current(): Mappings; onChange(listener: () => void): void };
  revocations: Pick<Revocations, 'isRevoked' | 'onChange' | 'forgetEnded'>;
  scope: TrustScope;
  maxChars: number;
  readsPerSecond: number;
  writesPerSecond: number;
  resyncMs: number;
  /** Left out where there is no Pod Identity. */
  podIdentity?: PodIdentitySources | undefined;
  clock: Clock;
  log: Log;
  metrics: WriterMetrics;
}

export interface Tenure {
  assignments: Assignments;
  queue: RoleQueue;
  late: LateAccounts;
  /** From when its caches are filled. */
  podIdentities: PodIdentityTenure | undefined;
  startPodIdentities(): Promise<void>;
  /** Looks at an account anew, after its annotation or its pods changed, or it was deleted. */
  accountChanged(name: string): void;
  /** Somebody may have asked for a comparison of the role. */
  statusChanged(role: string): void;
  /** Looks at every account and every role anew. */
  compareAll(): void;
  /** Looks at every account anew, and at the roles that came into the mappings or went out of them. */
  mappingsChanged(): void;
  /** Takes out whoever was shut out, at once, and lets in again whoever was allowed. */
  revocationsChanged(runs: readonly string[]): void;
}

export function startTenure(
  options: WriterOptions,
  reads: Budget,
  writes: Budget,
  lease: Pick<Lease, 'holds' | 'holdsUntil'>,
  signal: AbortSignal,
): Tenure {
  const { clock, log, pods, accounts, statuses, kubernetes, metrics } = options;
  const mayWrite = () => lease.holds() && !signal.aborted;
  const released = (arn: string, since: string) => (statuses.get(arn)?.annotations[releaseAnnotation] ?? '') >= since;
  const askedFor = (arn: string) => statuses.get(arn)?.annotations[compareAnnotation];
  const shutOut = (account: string) =>
    pods.ofAccount(account).some(({ run }) => run !== undefined && options.revocations.isRevoked(run));
  /** Whether an organization's mapping, or a user's, says that somebody else keeps the role's trust policy. */
  const isKeptElsewhere = (arn: string) =>
    options.mappings.current().foreignProxies.has(arn) ||
    options.podIdentity?.identities.current().foreignRoles.has(arn) === true;
  /** An account that had a want was not let in by an earlier release, whatever became of its annotation. */
  const everWanted = new Set<string>();
  const assignments = createAssignments({
    accounts,
    pods,
    mappings: options.mappings.current,
    revoked: options.revocations.isRevoked,
    computeNamespace: options.scope.namespace,
    monotonic: () => clock.monotonic(),
    onChange: (role, change) => queue.changed(role, change),
  });
  const publisher = createPublisher(trustStatusForm, kubernetes, statuses, mayWrite);
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
      isProxy: ({ arn, members, accepted }) =>
        options.mappings.current().managedProxies.has(arn) ||
        members.size > 0 ||
        accepted.size > 0 ||
        queue.memory(arn).unread,
      keep: (account) => {
        const found = accounts.get(account);
        if (found === undefined || found.wanted !== undefined || everWanted.has(account) || shutOut(account))
          return false;
        const live = pods.ofAccount(account);
        return allStartedBy(live, live[0]?.user ?? '');
      },
      nothingLives: () => pods.isEmpty(),
      stillWanted: async (role, names) => {
        // Whom an administrator shut out is dropped on purpose.
        const others = names.filter((name) => !shutOut(name));
        return others.length === 0 ? new Set() : stillWanted(kubernetes, role.arn, others, log);
      },
      // Asked of the API server itself: the brake is for when the caches cannot be believed.
      released: async (role, since) => {
        const status = await kubernetes.getConfigMap(statusName(role.arn)).catch(() => undefined);
        return (status?.annotations[releaseAnnotation] ?? '') >= since;
      },
      onWritten: (role, added, removed) => metrics.written(role.arn, added, removed),
      onRevoked: (_role, seconds) => metrics.revoked(seconds),
      onDrift: (role, drift, pauseMs) => {
        metrics.drifted(role.arn);
        const what = `The trust policy of ${role.arn}`;
        const configMap = statuses.get(role.arn)?.configMap;
        tellOfDrift(options, { configMap, reason: 'TrustPolicyChanged', what }, drift, pauseMs);
      },
    },
    askedFor,
    assignments: () => assignments,
    mappings: options.mappings.current,
    publisher,
    clock,
    log,
    metrics,
    isKeptElsewhere,
    knowsPods: () => tenure.podIdentities !== undefined,
    onPassed: (role) => tenure.podIdentities?.rolePassed(role.arn),
    signal,
  });
  const noteWant = (name: string) => {
    if (accounts.get(name)?.wanted !== undefined) everWanted.add(name);
  };
  for (const { name } of accounts.values()) noteWant(name);
  for (const { status } of statuses.all()) for (const name of Object.keys(status.members)) everWanted.add(name);
  const late = createLateAccounts({ accounts, pods, kubernetes, mayWrite, clock, log });
  let named: ReadonlySet<string> = new Set();
  const tenure: Tenure = {
    assignments,
    queue,
    late,
    podIdentities: undefined,
    startPodIdentities: async () => {
      const { podIdentity } = options;
      const eks = await podIdentity?.ready;
      if (!podIdentity || !eks) return;
      // The holder before may have acted on mappings that our watch does not have yet: that is not to be undone.
      await podIdentity.identities.caughtUp(signal);
      if (signal.aborted) return;
      tenure.podIdentities = startPodIdentityTenure({
        ...podIdentity,
        eks,
        kubernetes,
        accounts,
        pods,
        isKeptElsewhere,
        role: assignments.role,
        roles: assignments.roles,
        roleChanged: (role) => queue.changed(role, 'add'),
        reads,
        writes,
        lease,
        clock,
        log,
        signal,
      });
      for (const role of assignments.roles()) if (role.pods) queue.compare(role);
    },
    accountChanged: (name) => {
      // What a deleted account had goes at once; an ended run's is gathered with others'.
      noteWant(name);
      const left = accounts.get(name) ? [] : assignments.rolesOf(name);
      assignments.account(name);
      for (const role of left) queue.compare(role);
      late.changed(name);
    },
    statusChanged: (arn) => {
      if (!queue.knows(arn)) return;
      // Somebody deleted or edited it by hand.
      if (!publisher.stands(arn)) queue.changed(assignments.role(arn), 'publish');
      const { compareId, brake } = queue.memory(arn);
      const asked = askedFor(arn);
      const compare = asked !== undefined && asked !== compareId;
      if (compare || (brake && released(arn, brake.since))) queue.compare(assignments.role(arn), true);
    },
    mappingsChanged: () => {
      const before = named;
      named = options.mappings.current().managedProxies;
      assignments.all();
      for (const arn of named.symmetricDifference(before)) queue.compare(assignments.role(arn));
    },
    revocationsChanged: (runs) => {
      assignments.all();
      const leaves = (role: ProxyRole) => [...role.accepted.keys()].some((name) => !role.members.has(name));
      for (const role of assignments.roles()) if (leaves(role)) queue.compare(role, true);
      // Whom an earlier release let in is in no role that we know of.
      const inherited = (run: string) => pods.ofRun(run).some((pod) => accounts.get(pod.account)?.wanted === undefined);
      if (runs.some(inherited)) for (const arn of named) queue.compare(assignments.role(arn), true);
    },
    compareAll: () => {
      named = options.mappings.current().managedProxies;
      assignments.all();
      const known = new Set([...assignments.roles()].map(({ arn }) => arn));
      for (const arn of named.union(known)) queue.compare(assignments.role(arn));
    },
  };
  return tenure;
}
