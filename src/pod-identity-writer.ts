/** Owns Pod Identity in the lease holder's tenure: which accounts are to be looked at, one after the other, and when. */
import type { ProxyRole } from './assignments.ts';
import { createAssociations } from './associations.ts';
import type { HeldLease } from './aws-call.ts';
import { AwsError } from './aws-error.ts';
import type { Budget } from './budget.ts';
import type { Clock } from './clock.ts';
import type { Eks } from './eks.ts';
import { tellOfDrift } from './housekeeping.ts';
import { createKeyedQueue } from './keyed-queue.ts';
import type { Kubernetes, Mutation, ServiceAccount } from './kubernetes.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import type { Mappings } from './mappings.ts';
import { createMutationKeeper } from './mutation-keeper.ts';
import { type PodIdentities, type PodIdentityMapping, podIdentityConfigMap } from './pod-identities.ts';
import { findOrphans, type Inheritance, isLeft, takeOver } from './pod-identity-inheritance.ts';
import { podIdentityMutation } from './pod-identity-mutation.ts';
import { bring, type PodIdentityOutcome, type PodIdentityPassDeps } from './pod-identity-pass.ts';
import {
  contentOf,
  newRecord,
  type PodIdentityReason,
  type PodIdentityRecord,
  sameContent,
  statusOfRecord,
} from './pod-identity-record.ts';
import { takeAway, takeRoleAway } from './pod-identity-removal.ts';
import { type PodIdentityStatus, type PodIdentityStatuses, podIdentityStatusForm } from './pod-identity-status.ts';
import { createPodTrustKeeper } from './pod-trust-keeper.ts';
import { createPublisher } from './publisher.ts';
import type { PodIndex } from './runs.ts';

export interface PodIdentityMetrics {
  published(status: PodIdentityStatus): void;
  forgotten(account: string): void;
  drifted(part: 'account' | 'mutation'): void;
}

/** What one replica has for Pod Identity, whether it is the writer or not. */
export interface PodIdentitySources {
  identities: { current(): PodIdentities; onChange(listener: () => void): void };
  statuses: PodIdentityStatuses;
  mutation: Watched<Mutation>;
  /** Resolves when its caches are filled, and the client is there. */
  ready: Promise<Eks>;
  metrics: PodIdentityMetrics;
}

export interface PodIdentityTenureOptions extends Omit<PodIdentitySources, 'ready'> {
  eks: Eks;
  kubernetes: Kubernetes;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  mappings: () => Mappings;
  role: (arn: string) => ProxyRole;
  roles: () => Iterable<ProxyRole>;
  roleChanged: (role: ProxyRole) => void;
  reads: Budget;
  writes: Budget;
  lease: HeldLease;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

export interface PodIdentityTenure {
  /** Looks at every account anew, and for associations of ours that no mapping names. */
  compareAll(): void;
  mappingsChanged(): void;
  /** The service account or its pods changed, or somebody edited its status. */
  accountChanged(account: string): void;
  statusChanged(account: string): void;
  mutationChanged(): void;
  /** A pass over the role's trust policy ended. */
  rolePassed(role: string): void;
  idle(): Promise<void>;
}

const retryMs = 30_000;
/** EKS sees a role or a trust policy some seconds after IAM took it: until then its refusal tells nothing. */
const settleTries = 4;

export function startPodIdentityTenure(options: PodIdentityTenureOptions): PodIdentityTenure {
  const { identities, statuses, kubernetes, clock, log, signal, metrics, lease } = options;
  const mayWrite = () => lease.holds() && !signal.aborted;
  const records = new Map<string, PodIdentityRecord>();
  /** Associations that somebody else made, by id: they are not looked at a second time. */
  const foreign = new Set<string>();
  const publisher = createPublisher(podIdentityStatusForm, kubernetes, statuses, mayWrite);
  const associations = createAssociations(options);
  const trust = createPodTrustKeeper({
    role: options.role,
    isKeptElsewhere: (role) => deps.isKeptElsewhere(role),
    changed: options.roleChanged,
    monotonic: () => clock.monotonic(),
  });
  const mutation = createMutationKeeper({
    kubernetes,
    watched: options.mutation,
    wanted: () => new Map([...records.values()].filter(({ isReady }) => isReady).map((one) => [one.user, one.account])),
    mayWrite,
    onChange: () => {
      for (const record of records.values())
        if (record.reason?.code === 'waiting_for_mutation') queue.due(record.account, 0);
    },
    onDrift: (drift, pauseMs) => {
      metrics.drifted('mutation');
      const changed = { configMap: podIdentityConfigMap, reason: 'PodIdentityChanged' } as const;
      tellOfDrift(options, { ...changed, what: `Mutation ${podIdentityMutation}` }, drift, pauseMs);
    },
    clock,
    log,
    signal,
  });
  const deps: PodIdentityPassDeps = {
    associations,
    accounts: options.accounts,
    pods: options.pods,
    kubernetes,
    trust,
    mutation,
    isKeptElsewhere: (role) =>
      identities.current().foreignRoles.has(role) || options.mappings().foreignProxies.has(role),
    publish: (record) => publisher.publish(statusOfRecord(record)),
    mayWrite,
    onDrift: (record, pauseMs) => {
      metrics.drifted('account');
      const { account, drift } = record;
      const configMap = statuses.get(account)?.configMap;
      const what = `Pod Identity of service account ${account}`;
      if (drift) tellOfDrift(options, { configMap, reason: 'PodIdentityChanged', what }, drift, pauseMs);
    },
    clock,
    log,
  };
  const queue = createKeyedQueue({ clock, log, signal, serve: (account, failures) => serve(account, failures) });

  const inheritance: Inheritance = { ...options, identities: () => identities.current(), records, trust };

  /** @returns after how many milliseconds the account is to be looked at again; undefined: when something changes. */
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

  /** Whose mapping went away, or to another account, is given it no more: at once, however long its pass has to wait. */
  function leaveOthers(): void {
    for (const record of records.values()) if (isLeft(record, identities.current())) record.isReady = false;
  }

  function compareAll(): void {
    const accounts = new Set([...identities.current().byAccount.keys(), ...records.keys()]);
    for (const account of accounts) queue.due(account, 0);
    mutation.sync();
    const orphans = findOrphans(inheritance, associations, foreign, (account) => queue.due(account, 0));
    orphans.catch((error: unknown) => {
      if (!signal.aborted) log.info({ err: error }, 'associations were not listed; trying again later');
    });
  }

  takeOver(inheritance);
  compareAll();
  return {
    compareAll,
    mappingsChanged: () => {
      const { byAccount, problems } = identities.current();
      leaveOthers();
      for (const account of new Set([...byAccount.keys(), ...records.keys()])) {
        const record = records.get(account);
        const mapping = byAccount.get(account);
        const isSame = record && mapping && sameMapping(record, mapping, deps.isKeptElsewhere(mapping.iam_role_arn));
        // What waits or is refused may have been about another mapping, or a problem that is mended.
        if (!isSame || record.reason || problems.has(record.user)) queue.due(account, 0);
      }
      mutation.sync();
    },
    accountChanged: (account) => {
      const record = records.get(account);
      if (!record) return;
      // Runs come and go with an account that is in place: that alone is nothing to look at EKS for.
      const isMissing = record.parts.service_account && !options.accounts.get(account);
      if (isMissing || record.state === 'leaving' || record.reason) queue.due(account, 0);
    },
    statusChanged: (account) => {
      if (records.has(account) && !publisher.stands(account)) queue.due(account, 0);
    },
    mutationChanged: () => mutation.sync(),
    rolePassed: (role) => {
      const touched = [...records.values()].filter(({ trustedBy }) => trustedBy.has(role));
      for (const { account, parts, content, reason } of touched) {
        const isIn = trust.state(role, account) === 'in';
        const isAsKnown = role === content.roleArn && isIn && parts.trust_policy === true;
        if (!isAsKnown || reason?.code === 'waiting_for_trust_policy') queue.due(account, 0);
      }
    },
    idle: async () => {
      await queue.idle();
      await mutation.idle();
    },
  };
}

/** @param isElsewhere whether somebody else keeps the role's trust policy, as any user's mapping may say. */
function sameMapping(record: PodIdentityRecord, mapping: PodIdentityMapping, isElsewhere: boolean): boolean {
  const isSame = record.user === mapping.domino_user && sameContent(record.content, contentOf(mapping));
  return isSame && (record.parts.trust_policy === 'kept_elsewhere') === isElsewhere;
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
