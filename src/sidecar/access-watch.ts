/**
 * Owns the check between rounds of what the service reports about this run (`/my_access`), so that a run that was revoked, or
 * has lost a mapping, loses its sessions within a minute or two. The check costs no call to AWS.
 */
import type { Clock } from '../lib/clock.ts';
import { jsonFields } from '../lib/json.ts';
import type { Log } from '../lib/log.ts';
import { Failure } from './failure.ts';

export interface AccessWatchOptions {
  /** The interval, give or take a tenth; 0 is off. */
  everyMs: number;
  clock: Clock;
  random: () => number;
  signal: AbortSignal;
  log: Log;
  /** Fetches the service's answer, as text; undefined where the configured address does not lead to the service. @throws Failure */
  ask: () => Promise<string | undefined>;
  onLost: () => void;
}

/** Calls `onLost` each time the service reports losses that differ from those before; ends with `signal`. */
export async function watchAccess(options: AccessWatchOptions): Promise<void> {
  const { everyMs, clock, random, signal, onLost } = options;
  let known = '';
  let problem = '';
  while (everyMs > 0 && !signal.aborted) {
    await clock.sleep(everyMs * (0.9 + 0.2 * random()), signal);
    if (signal.aborted) return;
    const { losses, failure } = await look(options);
    if (signal.aborted) return;
    // While the failure lasts, only rounds notice that the run was revoked.
    const code = failure instanceof Failure ? failure.code : (failure?.name ?? '');
    if (failure && code !== problem) warn(options, failure);
    problem = code;
    if (losses === undefined) continue;
    if (losses !== '' && losses !== known) onLost();
    known = losses;
  }
}

async function look({ ask }: AccessWatchOptions): Promise<{ losses?: string | undefined; failure?: Error }> {
  try {
    const text = await ask();
    return { losses: text === undefined ? undefined : lossesIn(text) };
  } catch (error) {
    return { failure: error instanceof Error ? error : new Error(String(error)) };
  }
}

function warn({ log }: AccessWatchOptions, failure: Error): void {
  log.warn({ err: failure }, 'the service does not say whether this run lost roles: only rounds find out meanwhile');
}

const lossForm = /^(run_revoked|not_a_member|mapping_gone|organization_id_mismatch)$/;

/** @returns the roles that the run must no longer have, in the service's order. @throws Failure where the answer has another form. */
export function lossesIn(text: string): string {
  const { access: list } = jsonFields(text);
  if (!Array.isArray(list)) throw new Failure('unexpected_answer', { detail: 'it has no list of roles' });
  return list
    .filter((entry) => lossForm.test(String(entry?.code)))
    .map((entry) => `${entry.code} ${entry.iam_role_arn}`)
    .join('\n');
}
