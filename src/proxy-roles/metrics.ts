/** Owns the gauges of a proxy role, which follow its published status. */
import { awsErrorCodes } from '../aws/error.ts';
import type { Metrics } from '../lib/metrics.ts';
import { type TrustStatus, tokensProblemCodes } from './status.ts';

/** Sets the gauges of a role each time that its status is published. */
export function publishMetrics(metrics: Metrics, status: TrustStatus): void {
  const role = status.role_arn;
  metrics.members.set({ role }, Object.keys(status.members).length);
  metrics.characters.set({ role }, status.characters_used);
  metrics.charactersAllowed.set({ role }, status.characters_allowed);
  metrics.contested.set({ role }, status.contested_until === undefined ? 0 : 1);
  metrics.brakeHeld.set({ role }, status.brake?.held.length ?? 0);
  metrics.waiting.set({ role }, status.refused.filter(({ code }) => code === 'trust_policy_full').length);
  forgetErrors(metrics, role);
  if (status.error) metrics.roleErrors.set({ role, code: status.error.code }, 1);
  const problem = status.tokens?.problem;
  if (problem) metrics.roleTokensProblem.set({ role, code: problem.code }, 1);
}

/** Removes the gauges of a role that no mapping names any more, or that another replica reports. */
export function forgetMetrics(metrics: Metrics, role: string): void {
  const { members, characters, charactersAllowed, contested, brakeHeld, waiting } = metrics;
  for (const gauge of [members, characters, charactersAllowed, contested, brakeHeld, waiting]) gauge.remove({ role });
  forgetErrors(metrics, role);
}

function forgetErrors({ roleErrors, roleTokensProblem }: Metrics, role: string): void {
  for (const code of awsErrorCodes) roleErrors.remove({ role, code });
  for (const code of tokensProblemCodes) roleTokensProblem.remove({ role, code });
}
