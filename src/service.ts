/** Owns the wiring of one replica: it creates each part with its dependencies, and starts and stops them in order. */
import { once } from 'node:events';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Express } from 'express';
import { recordedOrganizations } from './activity/organizations.ts';
import { startTrail } from './activity/start.ts';
import { createApp } from './app.ts';
import { createCallers } from './auth/caller.ts';
import { createDomino } from './auth/domino.ts';
import { createSeenCallers } from './auth/seen-callers.ts';
import { createAuthenticator } from './auth/token.ts';
import { awsRequestHandler } from './aws/forward-proxy.ts';
import { type AwsIdentity, createIam, type Iam } from './aws/iam.ts';
import { createChangesSince } from './grants/changes-since.ts';
import { createGrants } from './grants/grant.ts';
import { createMemberships } from './grants/membership.ts';
import { createRoleTokens } from './grants/role-tokens.ts';
import { createKubernetes } from './kubernetes/client.ts';
import { createTokenMaker } from './kubernetes/tokens.ts';
import { createKubernetesApi } from './kubernetes/transport.ts';
import { createCandidate } from './leader/candidate.ts';
import type { Lease } from './leader/lease.ts';
import { eksClusterArn, oidcProviderArn } from './lib/arn.ts';
import type { Clock } from './lib/clock.ts';
import type { Config } from './lib/config.ts';
import type { Log } from './lib/log.ts';
import type { Metrics } from './lib/metrics.ts';
import { OrganizationStore } from './mappings/organization-store.ts';
import { contestedOrganizations, organizationConfigMap } from './mappings/organizations.ts';
import { mappingConfigMap } from './mappings/role-mappings.ts';
import { MappingStore } from './mappings/store.ts';
import { createPodIdentityPreview } from './pod-identity/preview.ts';
import { startPodIdentity } from './pod-identity/setup.ts';
import { followPodIdentityUsers } from './pod-identity/users.ts';
import { createRoleLookup } from './proxy-roles/role-lookup.ts';
import { trustStatusForm, trustStatusLabel } from './proxy-roles/status.ts';
import { createStatuses } from './reconcile/status-store.ts';
import { createReplicaCount } from './reports/replicas.ts';
import { Revocations, revokedConfigMap } from './runs/revocations.ts';
import { createPodIndex } from './runs/runs.ts';
import type { TrustScope } from './trust-policy/document.ts';

export interface ServiceOptions {
  config: Config;
  kubeConfig: KubeConfig;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export interface Service {
  app: Express;
  /** Does the slow work that the first requests would wait for. Call it before the app listens. */
  prepare(): Promise<void>;
  /** Resolves when `/readyz` says 200 for the first time. */
  ready: Promise<void>;
  /** Makes the replica not ready and releases the lease. Requests in flight are still answered. */
  drain(): Promise<void>;
  /** Drains, then stops the activity record and the watches. */
  stop(): Promise<void>;
}

export function startService(given: ServiceOptions): Service {
  const { config, clock } = given;
  const stopping = new AbortController();
  const { log, begin } = startTrail(given);
  const options = { ...given, log };
  const caches = startCaches(options);
  const { kubernetes, pods } = caches;
  const activity = begin(kubernetes, (run) => pods.ofRun(run).find(({ userName }) => userName)?.userName);
  const seenCallers = createSeenCallers(clock);
  const identity = startIdentity(options, stopping.signal);
  const { authenticator, callers } = createIdentification(options);
  const lease = startLease(options, { ...caches, ...identity }, stopping.signal);
  const { podIdentity, statuses, api } = caches;
  const mappings = caches.mappings.current;
  const changedSince = createChangesSince({ ...caches, clock });
  const forGrants = { ...caches, changedSince, roleTokenSeconds: config.roleTokenSeconds, clock };
  const grants = createGrants({ ...forGrants, mappings, timeoutMs: config.grantTimeoutSeconds * 1000 });
  const makeToken = createTokenMaker(api, config.computeNamespace);
  const roleTokens = createRoleTokens({ ...forGrants, makeToken, log });
  const { iam, awsIdentity, trustScope } = identity;
  const { app, prepare } = createApp({
    ...options,
    ...caches,
    ...identity,
    callers,
    grants,
    roleTokens,
    seenCallers,
    activity,
    recordedOrganizations: (userId) => recordedOrganizations(userId, activity, log),
    podIdentityPreview:
      podIdentity && createPodIdentityPreview({ iam, scope: trustScope, identities: podIdentity.identities }),
    knownRoles: createRoleLookup({ status: (arn) => statuses.get(arn)?.status, iam, clock }),
    leaseHolder: lease.holder,
    replicaCount: createReplicaCount({ ...options, kubernetes }),
    readiness: () => ({
      kubernetes: caches.isSynced() && api.isAnswering(),
      domino_keys: authenticator.ready(),
      domino_issuer: authenticator.issuerFits(),
      aws_identity: awsIdentity() !== undefined,
      accepting_requests: !stopping.signal.aborted,
    }),
  });
  lease.ended.catch((error: unknown) => log.error({ err: error }, 'this replica cannot become the leader'));

  async function drain(): Promise<void> {
    stopping.abort();
    await lease.ended.catch(() => undefined);
  }

  return {
    app,
    prepare,
    ready: Promise.all([caches.synced, authenticator.warm(stopping.signal), identity.known]).then(() => undefined),
    drain,
    stop: async () => {
      await drain();
      await activity.stop();
      caches.stop();
    },
  };
}

function startCaches({ config, kubeConfig, clock, log, metrics }: ServiceOptions) {
  const api = createKubernetesApi(kubeConfig, clock);
  const onWatchRestart = (resource: string) => metrics.watchRestarts.inc({ resource });
  const kubernetes = createKubernetes({ ...config, api, clock, log, onWatchRestart });
  const watches = {
    pods: kubernetes.watchPods(),
    accounts: kubernetes.watchServiceAccounts(),
    mappings: kubernetes.watchConfigMap(mappingConfigMap),
    organizations: kubernetes.watchConfigMap(organizationConfigMap),
    statuses: kubernetes.watchConfigMaps(trustStatusLabel),
    revocations: kubernetes.watchConfigMap(revokedConfigMap),
  };
  const pods = createPodIndex(watches.pods);
  const statuses = createStatuses(trustStatusForm, watches.statuses);
  const organizations = new OrganizationStore({ kubernetes, watched: watches.organizations, clock });
  const mappings = new MappingStore({ kubernetes, watched: watches.mappings, organizations, clock, log });
  const onRefused = () => metrics.organizationRefusals.inc();
  const memberships = createMemberships({ organizations, mappings: mappings.current, clock, log, onRefused });
  const countUnusable = () => {
    metrics.unusableMappings.set({ to: 'roles' }, mappings.current().unreadable.size);
    metrics.contestedOrganizations.set(contestedOrganizations(organizations.current(), mappings.current()).length);
  };
  countUnusable();
  mappings.onChange(countUnusable);
  const revocations = new Revocations({ kubernetes, watched: watches.revocations, clock });
  const podIdentity = startPodIdentity({ config, kubernetes, clock, log, metrics });
  if (podIdentity) followPodIdentityUsers(podIdentity.identities, pods, log);
  let isSynced = false;
  const all = [...Object.values(watches), mappings, revocations];
  const synced = Promise.all(all.map((cache) => cache.synced)).then(() => {
    isSynced = true;
  });
  const stop = () => {
    for (const watch of Object.values(watches)) watch.stop();
    podIdentity?.stop();
    api.close();
  };
  const { accounts } = watches;
  const stores = { organizations, mappings, memberships, revocations, statuses, podIdentity };
  return { api, kubernetes, accounts, pods, ...stores, synced, isSynced: () => isSynced, stop };
}

type Caches = ReturnType<typeof startCaches>;

function startIdentity({ config, clock, log, metrics }: ServiceOptions, signal: AbortSignal) {
  const iam = createIam({
    region: config.awsRegion,
    requestHandler: awsRequestHandler(config.awsProxy),
    monotonic: () => clock.monotonic(),
    ownRole: config.ownRole,
    onCall: (action, outcome, seconds) => metrics.iamSeconds.observe({ action, outcome }, seconds),
  });
  let identity: AwsIdentity | undefined;
  const known = learnIdentity(iam, clock, log, signal).then((found) => {
    identity = found;
    return found;
  });
  return {
    iam,
    /** Resolves with undefined where the replica shuts down first. */
    known,
    awsIdentity: () => identity,
    trustScope: () => identity && scopeOf(config, identity),
  };
}

type Identity = ReturnType<typeof startIdentity>;

function createIdentification({ config, clock, log, metrics }: ServiceOptions) {
  const authenticator = createAuthenticator({
    issuer: config.dominoIssuer,
    jwksUrl: config.dominoJwksUrl,
    audience: config.dominoAudience,
    clock,
    log,
    onRefused: (reason) => metrics.tokenRefusals.inc({ reason }),
  });
  const domino = createDomino({
    baseUrl: config.dominoUserHost,
    log,
    onCall: (call, ok) => {
      (call === 'principal' ? metrics.principalQueries : metrics.organizationQueries).inc();
      if (!ok) (call === 'principal' ? metrics.failedPrincipalQueries : metrics.failedOrganizationQueries).inc();
    },
  });
  const callers = createCallers({ domino, authenticator, clock, allowApiKey: config.allowDominoApiKey });
  return { authenticator, callers };
}

/** Competes for the lease once the caches are filled and the service's AWS account is known. */
function startLease(options: ServiceOptions, known: Caches & Identity, signal: AbortSignal) {
  let holder: Lease['holder'] = () => '';
  const stopped = once(signal, 'abort').then(() => undefined);
  // A replica that shuts down before its caches are filled does not compete.
  const ended = Promise.race([Promise.all([known.synced, known.known]), stopped]).then(async (found) => {
    const identity = found?.[1];
    if (!identity || signal.aborted) return;
    const lease = createCandidate({ ...options, ...known, scope: scopeOf(options.config, identity) });
    holder = lease.holder;
    await lease.run(signal);
  });
  return { ended, holder: () => holder() };
}

function scopeOf(config: Config, { partition, account }: AwsIdentity): TrustScope {
  const { oidcProvider: issuer, oidcAudience: audience, computeNamespace: namespace, eksCluster: name } = config;
  const cluster = name && eksClusterArn(partition, config.awsRegion, account, name);
  return { issuer, audience, providerArn: oidcProviderArn(partition, account, issuer), namespace, cluster };
}

/** Asks STS for the service's identity until it answers. @returns undefined when `signal` was aborted first. */
async function learnIdentity(iam: Iam, clock: Clock, log: Log, signal: AbortSignal): Promise<AwsIdentity | undefined> {
  for (let pause = 250; !signal.aborted; pause = Math.min(pause * 2, 15_000)) {
    try {
      return await iam.identity(AbortSignal.any([signal, AbortSignal.timeout(5_000)]));
    } catch (error) {
      log.warn({ err: error }, 'AWS does not say who we are; trying again');
      await clock.sleep(pause, signal);
    }
  }
  return undefined;
}
