/** Owns the wiring of Pod Identity in one replica: its caches, its client, and what the routes and the leader use of it. */

import { createEks } from '../aws/eks.ts';
import { awsRequestHandler } from '../aws/forward-proxy.ts';
import type { Kubernetes } from '../kubernetes/client.ts';
import type { Clock } from '../lib/clock.ts';
import type { Config } from '../lib/config.ts';
import type { Log } from '../lib/log.ts';
import type { Metrics } from '../lib/metrics.ts';
import { createStatuses } from '../reconcile/status-store.ts';
import type { PodIdentitySources } from './controller.ts';
import { podIdentityConfigMap } from './mappings.ts';
import { forgetPodIdentityMetrics, publishPodIdentityMetrics } from './metrics.ts';
import { podIdentityMutation } from './mutation-rules.ts';
import { podIdentityLabel, podIdentityStatusForm } from './status.ts';
import { PodIdentityStore } from './store.ts';

export interface PodIdentity extends PodIdentitySources {
  identities: PodIdentityStore;
  /** Whether mappings and statuses are known. */
  isSynced(): boolean;
  /** Whether the Mutation is known too; until then nothing is created. */
  isReady(): boolean;
  stop(): void;
}

export interface PodIdentityOptions {
  config: Config;
  kubernetes: Kubernetes;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

/** @returns undefined where no cluster is configured: Pod Identity is off then. */
export function startPodIdentity(options: PodIdentityOptions): PodIdentity | undefined {
  const { config, kubernetes, clock, log, metrics } = options;
  const { eksCluster: cluster } = config;
  if (cluster === undefined) return undefined;
  const mappings = kubernetes.watchConfigMap(podIdentityConfigMap);
  const published = kubernetes.watchConfigMaps(podIdentityLabel);
  const mutation = kubernetes.watchMutation(podIdentityMutation);
  const identities = new PodIdentityStore({ kubernetes, watched: mappings, clock, log });
  const countUnusable = () => {
    const { problems, replaced } = identities.current();
    metrics.unusableMappings.set({ to: 'pod_identity' }, problems.size + replaced.size);
  };
  countUnusable();
  identities.onChange(countUnusable);
  let isSynced = false;
  let isReady = false;
  const known = Promise.all([mappings.synced, identities.synced, published.synced]).then(() => {
    isSynced = true;
  });
  const eks = createEks({
    region: config.awsRegion,
    cluster,
    namespace: config.computeNamespace,
    requestHandler: awsRequestHandler(config.awsProxy),
    monotonic: () => clock.monotonic(),
    ownRole: config.ownRole,
    onCall: (action, outcome, seconds) => metrics.iamSeconds.observe({ action, outcome }, seconds),
  });
  // Without domsed's resource, or the permission to read it, runs still get their roles: readiness does not wait for it.
  const ready = Promise.all([eks, known, mutation.synced]).then(([client]) => {
    isReady = true;
    return client;
  });
  return {
    installation: config.fieldNamespace,
    identities,
    statuses: createStatuses(podIdentityStatusForm, published),
    mutation,
    ready,
    isSynced: () => isSynced,
    isReady: () => isReady,
    metrics: {
      published: (status) => publishPodIdentityMetrics(metrics, status),
      forgotten: (account) => forgetPodIdentityMetrics(metrics, account),
      drifted: (part) => metrics.podIdentityDrifts.inc({ part }),
    },
    stop: () => {
      for (const watch of [mappings, published, mutation]) watch.stop();
    },
  };
}
