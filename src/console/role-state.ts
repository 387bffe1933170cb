/** Owns the short state of a proxy role for the list of roles: its most severe problem. Pure. */
import type { ProxyRole } from './types.ts';

export type RoleState = readonly [tone: 'good' | 'bad' | 'warn' | 'plain', said: string];

export function roleState(role: ProxyRole): RoleState {
  const problem = role.error ?? role.role_tokens?.problem;
  if (problem) return ['bad', problem.code];
  if (role.waiting.length > 0) return waiting(role);
  if (role.kept_elsewhere) return ['plain', 'kept elsewhere'];
  if (!role.published) return ['warn', 'not checked yet'];
  if (role.brake) return ['warn', `${role.brake.held.length} held`];
  if (role.contested_until !== undefined) return ['warn', 'contested'];
  if (role.drift) return ['warn', 'changed outside'];
  if (!role.mapped) return ['plain', 'no longer mapped'];
  return ['good', 'in order'];
}

function waiting({ waiting: runs, runs_that_still_fit: fits }: ProxyRole): RoleState {
  return fits === 0 ? ['bad', `full, ${runs.length} waiting`] : ['warn', `${runs.length} waiting`];
}
