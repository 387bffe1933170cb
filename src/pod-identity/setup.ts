/** Owns the wiring of Pod Identity in one replica: its caches, its client, and what the routes and the leader get of it. */

import { createEks } from '../aws/eks.ts';
import { awsRequestHandler } from '../aws/forward-proxy.ts';
import type { ConfigMap, Kubernetes, Mutation } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
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
  /** Whether the Mutation is known too; without it nothing is made. */
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

/** @returns undefined where no cluster is named: then nothing of it runs. */
export function startPodIdentity(options: PodIdentityOptions): PodIdentity | undefined {
  const { config, kubernetes, clock, log, metrics } = options;
  const { eksCluster: cluster } = config;
  if (cluster === undefined) return undefined;
  const mappings: Watched<ConfigMap> = kubernetes.watchConfigMap(podIdentityConfigMap);
  const published: Watched<ConfigMap> = kubernetes.watchConfigMaps(podIdentityLabel);
  const mutation: Watched<Mutation> = kubernetes.watchMutation(podIdentityMutation);
  const identities = new PodIdentityStore({ kubernetes, watched: mappings, clock, log });
  const tellUnusable = () => {
    const { problems, replaced } = identities.current();
    metrics.unusableMappings.set({ to: 'pod_identity' }, problems.size + replaced.size);
  };
  tellUnusable();
  identities.onChange(tellUnusable);
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
  // Without domsed's resource, or the right to see it, runs get their roles all the same: readiness does not wait for it.
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
