/** Owns the wiring of one replica: every room made once, with what it needs, started and stopped in order. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Express } from 'express';
import { createApp } from './app.ts';
import { oidcProviderArn } from './arn.ts';
import { createAuthenticator } from './auth.ts';
import { createCallers } from './caller.ts';
import type { Clock } from './clock.ts';
import type { Config } from './config.ts';
import { createDomino } from './domino.ts';
import { createGrants } from './grants.ts';
import { type AwsIdentity, createIam, type Iam } from './iam.ts';
import { createKubernetes } from './kubernetes.ts';
import { createKubernetesApi } from './kubernetes-api.ts';
import { createLease, type Lease } from './lease.ts';
import type { Log } from './log.ts';
import { createMappingStore } from './mapping-store.ts';
import { mappingConfigMap } from './mappings.ts';
import { forgetMetrics, forgetPodIdentityMetrics, type Metrics, publishMetrics } from './metrics.ts';
import { startPodIdentity } from './pod-identity.ts';
import { createRevocations, revokedConfigMap } from './revocations.ts';
import { createPodIndex } from './runs.ts';
import { createStatuses } from './statuses.ts';
import { trustStatusForm, trustStatusLabel } from './trust-status.ts';
import { createWriter } from './writer.ts';

export interface ServiceOptions {
  config: Config;
  kubeConfig: KubeConfig;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

export interface Service {
  app: Express;
  /** Resolves when `/readyz` says 200 for the first time. */
  ready: Promise<void>;
  /** Not ready from now on, and the writer no more; requests under way are still answered. */
  drain(): Promise<void>;
  /** Stops the watches, and all else. */
  stop(): Promise<void>;
}

export function startService({ config, kubeConfig, clock, log, metrics }: ServiceOptions): Service {
  const stopping = new AbortController();
  let isSynced = false;

  const api = createKubernetesApi(kubeConfig, () => clock.monotonic());
  const kubernetes = createKubernetes({
    api,
    fieldNamespace: config.fieldNamespace,
    computeNamespace: config.computeNamespace,
    platformNamespace: config.platformNamespace,
    clock,
    log,
    onWatchRestart: (resource) => metrics.watchRestarts.inc({ resource }),
  });
  const watches = {
    pods: kubernetes.watchPods(),
    accounts: kubernetes.watchServiceAccounts(),
    mappings: kubernetes.watchConfigMap(mappingConfigMap),
    statuses: kubernetes.watchConfigMaps(trustStatusLabel),
    revocations: kubernetes.watchConfigMap(revokedConfigMap),
  };
  const pods = createPodIndex(watches.pods);
  const statuses = createStatuses(trustStatusForm, watches.statuses);
  const mappings = createMappingStore(kubernetes, watches.mappings, clock, log);
  const tellUnusable = () => metrics.unusableMappings.set({ to: 'roles' }, mappings.current().unreadable.size);
  tellUnusable();
  mappings.onChange(tellUnusable);
  const revocations = createRevocations(kubernetes, watches.revocations, clock);
  const podIdentity = startPodIdentity({ config, kubernetes, clock, log, metrics });
  const caches = [...Object.values(watches), mappings, revocations];
  const synced = Promise.all(caches.map((cache) => cache.synced)).then(() => {
    isSynced = true;
  });

  const authenticator = createAuthenticator({
    issuer: config.dominoIssuer,
    jwksUrl: config.dominoJwksUrl,
    audience: config.dominoAudience,
    clock,
    log,
  });
  const domino = createDomino({
    baseUrl: config.dominoUserHost,
    clock,
    log,
    onCall: (call, ok) => {
      (call === 'principal' ? metrics.principalQueries : metrics.organizationQueries).inc();
      if (!ok) (call === 'principal' ? metrics.failedPrincipalQueries : metrics.failedOrganizationQueries).inc();
    },
  });
  const callers = createCallers({ domino, authenticator, clock, allowApiKey: config.allowDominoApiKey });
  const grants = createGrants({
    kubernetes,
    accounts: watches.accounts,
    pods,
    statuses,
    revocations,
    mappings: mappings.current,
    timeoutMs: config.grantTimeoutSeconds * 1000,
    clock,
  });
  const iam = createIam({
    region: config.awsRegion,
    monotonic: () => clock.monotonic(),
    onCall: (action, outcome, seconds) => metrics.iamSeconds.observe({ action, outcome }, seconds),
  });
  let identity: AwsIdentity | undefined;
  const identified = learnIdentity(iam, clock, log, stopping.signal).then((found) => {
    identity = found;
    return found;
  });

  let leaseHolder: Lease['holder'] = () => '';
  const ready = Promise.all([synced, authenticator.warm(stopping.signal), identified]).then(() => undefined);
  const writing = Promise.all([synced, identified]).then(async ([, found]) => {
    if (!found) return;
    const writer = createWriter({
      kubernetes,
      iam,
      accounts: watches.accounts,
      pods,
      statuses,
      revocations,
      mappings,
      scope: {
        issuer: config.oidcProvider,
        audience: config.oidcAudience,
        providerArn: oidcProviderArn(found.partition, found.account, config.oidcProvider),
        namespace: config.computeNamespace,
      },
      maxChars: config.trustPolicyMaxChars,
      readsPerSecond: config.iamReadsPerSecond,
      writesPerSecond: config.iamWritesPerSecond,
      resyncMs: config.resyncSeconds * 1000,
      podIdentity,
      clock,
      log,
      metrics: {
        written: (_role, added) => metrics.batchSize.observe(added),
        revoked: (seconds) => metrics.revokeSeconds.observe(seconds),
        drifted: (role) => metrics.drifts.inc({ role }),
        published: (status) => publishMetrics(metrics, status),
        forgotten: (role) => forgetMetrics(metrics, role),
      },
    });
    const lease = createLease({
      kubernetes,
      identity: `${hostname()}-${randomUUID().slice(0, 8)}`,
      durationMs: config.leaseSeconds * 1000,
      clock,
      log,
      hold: async (signal) => {
        metrics.leaseHeld.set(1);
        try {
          await writer.hold(lease, signal);
        } finally {
          metrics.leaseHeld.set(0);
          // Another replica tells of the roles from now on.
          for (const { status } of statuses.all()) forgetMetrics(metrics, status.role_arn);
          for (const { status } of podIdentity?.statuses.all() ?? [])
            forgetPodIdentityMetrics(metrics, status.service_account);
        }
      },
    });
    leaseHolder = lease.holder;
    await lease.run(stopping.signal);
  });
  writing.catch((error: unknown) => log.error({ err: error }, 'this replica cannot become the writer'));

  const app = createApp({
    config,
    callers,
    mappings,
    grants,
    kubernetes,
    accounts: watches.accounts,
    pods,
    statuses,
    revocations,
    podIdentity,
    leaseHolder: () => leaseHolder(),
    awsIdentity: () => identity,
    readiness: () => ({
      kubernetes: isSynced,
      domino_keys: authenticator.ready(),
      aws_identity: identity !== undefined,
      accepting_requests: !stopping.signal.aborted,
    }),
    clock,
    log,
    metrics,
  });

  async function drain(): Promise<void> {
    stopping.abort();
    await writing.catch(() => undefined);
  }

  return {
    app,
    ready,
    drain,
    stop: async () => {
      await drain();
      for (const watch of Object.values(watches)) watch.stop();
      podIdentity?.stop();
    },
  };
}

/** Asks STS who we are until it says so. @returns undefined when `signal` was aborted first. */
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
