/** Owns the leader's options: the parts of the service that it needs. */
import type { Iam } from '../aws/iam.ts';
import type { Kubernetes, ServiceAccount } from '../kubernetes/client.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Config } from '../lib/config.ts';
import type { Log } from '../lib/log.ts';
import type { Mappings } from '../mappings/role-mappings.ts';
import type { PodIdentitySources } from '../pod-identity/controller.ts';
import type { RoleMetrics } from '../proxy-roles/controller.ts';
import type { TrustStatuses } from '../proxy-roles/status.ts';
import type { Revocations } from '../runs/revocations.ts';
import type { PodIndex } from '../runs/runs.ts';
import type { TrustScope } from '../trust-policy/document.ts';

export interface LeaderMetrics extends RoleMetrics {
  /** Called after each write with how many accounts it added. */
  written(added: number): void;
  /** Called with the seconds from when an account lost its right to the role until the write that removed it. */
  revoked(seconds: number): void;
  /** Called when an external change of a trust policy is found. */
  drifted(role: string): void;
}

export interface LeaderOptions {
  config: Config;
  kubernetes: Kubernetes;
  iam: Iam;
  accounts: Watched<ServiceAccount>;
  pods: PodIndex;
  statuses: TrustStatuses;
  mappings: { current(): Mappings; onChange(listener: () => void): void };
  revocations: Pick<Revocations, 'current' | 'isRevoked' | 'onRunsChange' | 'forgetEnded'>;
  scope: TrustScope;
  /** Undefined where Pod Identity is off. */
  podIdentity?: PodIdentitySources | undefined;
  clock: Clock;
  log: Log;
  metrics: LeaderMetrics;
}
