/** Owns the gauges of a service account with Pod Identity, which follow its published status. */
import type { Metrics } from '../lib/metrics.ts';
import { podIdentityReasonCodes } from './record.ts';
import { type PodIdentityStatus, podIdentityStates } from './status.ts';

/** Sets the gauges of a service account each time that its status is published. */
export function publishPodIdentityMetrics(metrics: Metrics, status: PodIdentityStatus): void {
  const { service_account, state, reason } = status;
  forgetPodIdentityMetrics(metrics, service_account);
  metrics.podIdentities.set({ service_account, state }, 1);
  if (reason) metrics.podIdentityProblems.set({ service_account, code: reason.code }, 1);
}

export function forgetPodIdentityMetrics(metrics: Metrics, account: string): void {
  for (const state of podIdentityStates) metrics.podIdentities.remove({ service_account: account, state });
  for (const code of podIdentityReasonCodes) metrics.podIdentityProblems.remove({ service_account: account, code });
}
