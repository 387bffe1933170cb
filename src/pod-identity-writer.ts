/** Owns Pod Identity in the lease holder's tenure: which accounts are to be looked at, one after the other, and when. */
import type { ProxyRole } from './assignments.ts';
import { createAssociations } from './associations.ts';
import type { HeldLease } from './aws-call.ts';
import type { Budget } from './budget.ts';
import type { Clock } from './clock.ts';
import type { Eks } from './eks.ts';
import { tellOfDrift } from './housekeeping.ts';
import { beforeOthers, createKeyedQueue } from './keyed-queue.ts';
import type { Kubernetes, Mutation, ServiceAccount } from './kubernetes.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { createMutationKeeper } from './mutation-keeper.ts';
import { type PodIdentities, type PodIdentityMapping, podIdentityConfigMap } from './pod-identities.ts';
import { findOrphans, type Inheritance, isLeft, takeOver } from './pod-identity-inheritance.ts';
import { podIdentityMutation } from './pod-identity-mutation.ts';
import type { PodIdentityPassDeps } from './pod-identity-pass.ts';
import { contentOf, type PodIdentityRecord, sameContent, statusOfRecord } from './pod-identity-record.ts';
import { type PodIdentityStatus, type PodIdentityStatuses, podIdentityStatusForm } from './pod-identity-status.ts';
import { createPodIdentityTurn } from './pod-identity-turn.ts';
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
  identities: {
    current(): PodIdentities;
    onChange(listener: () => void): void;
    caughtUp(signal: AbortSignal): Promise<void>;
  };
  statuses: PodIdentityStatuses;
  mutation: Watched<Mutation>;
  /** Resolves when its caches are filled, and the client is there. */
  ready: Promise<Eks>;
  metrics: PodIdentityMetrics;
  /** What tells this installation from others in the cluster: its field namespace. */
  installation: string;
}

export interface PodIdentityTenureOptions extends Omit<PodIdentitySources, 'ready'> {
  eks: Eks;
  kubernetes: Kubernetes;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  /** Whether somebody else keeps the role's trust policy. */
  isKeptElsewhere: (role: string) => boolean;
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

export function startPodIdentityTenure(options: PodIdentityTenureOptions): PodIdentityTenure {
  const { identities, statuses, kubernetes, clock, log, signal, metrics, lease } = options;
  const mayWrite = () => lease.holds() && !signal.aborted;
  const records = new Map<string, PodIdentityRecord>();
  /** Associations that this installation did not make, by id: they are not looked at a second time. */
  const foreign = new Set<string>();
  const publisher = createPublisher(podIdentityStatusForm, kubernetes, statuses, mayWrite);
  const associations = createAssociations(options);
  const trust = createPodTrustKeeper({
    role: options.role,
    isKeptElsewhere: options.isKeptElsewhere,
    changed: options.roleChanged,
    monotonic: () => clock.monotonic(),
  });
  const mutation = createMutationKeeper({
    kubernetes,
    watched: options.mutation,
    installation: options.installation,
    // Whose mapping went away, or to another account, is given it no more: at once, however long its pass has to wait.
    wanted: () => {
      const given = [...records.values()].filter((one) => one.isReady && !isLeft(one, identities.current()));
      return new Map(given.map(({ user, account }) => [user, account]));
    },
    mayWrite,
    onChange: () => {
      for (const record of records.values())
        if (record.reason?.code === 'waiting_for_mutation') queue.due(record.account, beforeOthers);
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
    isKeptElsewhere: options.isKeptElsewhere,
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
  const serve = createPodIdentityTurn({ deps, records, identities, publisher, metrics, clock, log, signal });
  const queue = createKeyedQueue({ clock, log, signal, serve });

  const inheritance: Inheritance = { ...options, identities: () => identities.current(), records, trust };

  /** One search at a time: the first one looks at each association of others, and may take longer than a resync. */
  let searching: Promise<void> | undefined;

  function compareAll(): void {
    const accounts = new Set([...identities.current().byAccount.keys(), ...records.keys()]);
    for (const account of accounts) queue.due(account, 0);
    mutation.sync();
    searching ??= findOrphans(inheritance, associations, foreign, (account) => queue.due(account, 0))
      .catch((error: unknown) => {
        if (!signal.aborted) log.info({ err: error }, 'associations were not listed; trying again later');
      })
      .finally(() => {
        searching = undefined;
      });
  }

  takeOver(inheritance);
  compareAll();
  return {
    compareAll,
    mappingsChanged: () => {
      const { byAccount, problems } = identities.current();
      for (const account of new Set([...byAccount.keys(), ...records.keys()])) {
        const record = records.get(account);
        const mapping = byAccount.get(account);
        const isSame = record && mapping && sameMapping(record, mapping, options.isKeptElsewhere(mapping.iam_role_arn));
        // What waits or is refused may have been about another mapping, or a problem that is mended.
        if (!isSame || record.reason || problems.has(record.user)) queue.due(account, beforeOthers);
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
        if (!isAsKnown || reason?.code === 'waiting_for_trust_policy') queue.due(account, beforeOthers);
      }
    },
    idle: async () => {
      await searching;
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
