/** Owns a replica's candidacy: it competes for the lease, waits for release 1.8 to end, and publishes metrics. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Metrics } from '../lib/metrics.ts';
import { forgetPodIdentityMetrics } from '../pod-identity/metrics.ts';
import { forgetMetrics, publishMetrics } from '../proxy-roles/metrics.ts';
import { createPredecessor } from './earlier-release.ts';
import { createLeader } from './leader.ts';
import { createLease, type Lease } from './lease.ts';
import type { LeaderOptions } from './options.ts';

export interface CandidateOptions extends Omit<LeaderOptions, 'metrics'> {
  metrics: Metrics;
}

/** @returns the lease. Its `run` competes for it, and the replica is the leader while it holds it. */
export function createCandidate(options: CandidateOptions): Lease {
  const { config, kubernetes, statuses, podIdentity, clock, log, metrics } = options;
  const leader = createLeader({
    ...options,
    metrics: {
      written: (added) => metrics.batchSize.observe(added),
      revoked: (seconds) => metrics.revokeSeconds.observe(seconds),
      drifted: (role) => metrics.drifts.inc({ role }),
      published: (status) => publishMetrics(metrics, status),
      forgotten: (role) => forgetMetrics(metrics, role),
    },
  });
  const predecessor = createPredecessor({ kubernetes, deployment: config.earlierDeployment, clock, log });
  const lead = async (until: AbortSignal) => {
    metrics.leaseHeld.set(1);
    try {
      await leader.hold(lease, until);
    } finally {
      metrics.leaseHeld.set(0);
      // From now on another replica publishes the roles' metrics.
      for (const { status } of statuses.all()) forgetMetrics(metrics, status.role_arn);
      for (const { status } of podIdentity?.statuses.all() ?? [])
        forgetPodIdentityMetrics(metrics, status.service_account);
    }
  };
  const lease = createLease({
    kubernetes,
    identity: `${hostname()}-${randomUUID().slice(0, 8)}`,
    durationMs: config.leaseSeconds * 1000,
    clock,
    log,
    hold: (signal) => predecessor.without(signal, lead),
  });
  return lease;
}
