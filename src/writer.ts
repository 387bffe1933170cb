/** Owns the writer: it takes over what is published, follows what changes, and compares all in turn. */
import { createBudget } from './budget.ts';
import { clearDeadWants, forgetEndedRevocations } from './housekeeping.ts';
import type { Lease } from './lease.ts';
import { toPodTrust } from './pod-trust.ts';
import { inherit } from './role-memory.ts';
import { startTenure, type Tenure, type WriterOptions } from './tenure.ts';

export interface Writer {
  /** Writes for as long as the lease is held: until `signal` is aborted and what is under way has ended. */
  hold(lease: Pick<Lease, 'holds' | 'holdsUntil'>, signal: AbortSignal): Promise<void>;
}

/** The caches given must have synced before `hold` is called. Invariant 3. */
export function createWriter(options: WriterOptions): Writer {
  const { clock, log } = options;
  // The budget is the AWS account's: it outlives a tenure.
  const reads = createBudget(options.readsPerSecond, clock);
  const writes = createBudget(options.writesPerSecond, clock);
  let tenure: Tenure | undefined;

  options.accounts.onChange((name) => tenure?.accountChanged(name));
  options.pods.onAccountChange((name) => tenure?.accountChanged(name));
  options.mappings.onChange(() => {
    tenure?.mappingsChanged();
    tenure?.podIdentities?.mappingsChanged();
  });
  options.statuses.onChange((role) => tenure?.statusChanged(role));
  options.revocations.onChange((runs) => tenure?.revocationsChanged(runs));
  const { podIdentity } = options;
  podIdentity?.identities.onChange(() => tenure?.podIdentities?.mappingsChanged());
  podIdentity?.mutation.onChange(() => tenure?.podIdentities?.mutationChanged());
  podIdentity?.statuses.onChange((account) => tenure?.podIdentities?.statusChanged(account));
  options.accounts.onChange((name) => tenure?.podIdentities?.accountChanged(name));
  options.pods.onAccountChange((name) => tenure?.podIdentities?.accountChanged(name));

  return {
    hold: async (lease, signal) => {
      tenure = startTenure(options, reads, writes, lease, signal);
      try {
        takeOver(options, tenure);
        tenure.startPodIdentities().catch((error: unknown) => {
          log.error({ err: error }, 'Pod Identity cannot be kept; roles of organizations are');
        });
        while (!signal.aborted) {
          await clock.sleep(options.resyncMs, signal);
          if (!signal.aborted) await resync(options, tenure, () => lease.holds() && !signal.aborted);
        }
        await tenure.queue.idle();
        await tenure.podIdentities?.idle();
      } finally {
        tenure = undefined;
      }
    },
  };
}

/** Starts from what the holder before published: who is in, and where. */
function takeOver(
  { statuses, scope, clock, podIdentity }: WriterOptions,
  { assignments, queue, late, compareAll }: Tenure,
): void {
  for (const { status } of statuses.all()) {
    const role = assignments.role(status.role_arn);
    role.accepted = new Map(Object.entries(status.members));
    // Kept as it is until Pod Identity's own mappings are known.
    if (podIdentity && status.pods) role.pods = role.acceptedPods = role.settledPods = toPodTrust(status.pods);
    inherit(queue.memory(role.arn), status, scope.namespace, clock.monotonic());
  }
  compareAll();
  late.all();
}

/** The full comparison that comes round every while, with another chance for roles that could not be written. */
async function resync(
  options: WriterOptions,
  { assignments, late, compareAll, podIdentities }: Tenure,
  holds: () => boolean,
): Promise<void> {
  for (const role of assignments.roles()) if (role.error) role.error.until = Number.NEGATIVE_INFINITY;
  compareAll();
  late.all();
  podIdentities?.compareAll();
  await clearDeadWants(options, holds);
  if (holds()) await forgetEndedRevocations(options);
}
