/** Owns the leader: it recovers the published state, reacts to changes, and regularly compares everything with IAM. */
import { createRateLimiter } from '../aws/rate-limiter.ts';
import { createTimeRange } from '../lib/clock.ts';
import { recover } from '../proxy-roles/proxy-role.ts';
import { clearEndedRequests, forgetEndedRevocations } from '../runs/cleanup.ts';
import type { Lease } from './lease.ts';
import type { LeaderOptions } from './options.ts';
import { Term } from './term.ts';

export interface Leader {
  /** Leads one term. Resolves when `signal` is aborted and the reconciles in flight have ended. */
  hold(lease: Pick<Lease, 'holds' | 'holdsUntil'>, signal: AbortSignal): Promise<void>;
}

/** The caches must have synced before `hold` is called. Invariant 3. */
export function createLeader(options: LeaderOptions): Leader {
  const { config, clock, log } = options;
  // The rate limit belongs to the AWS account, so it outlives a term.
  const reads = createRateLimiter(config.iamReadsPerSecond, clock);
  const writes = createRateLimiter(config.iamWritesPerSecond, clock);
  const time = createTimeRange(clock);
  let term: Term | undefined;

  options.accounts.onChange((name) => term?.accountChanged(name));
  options.pods.onAccountChange((name) => term?.accountChanged(name));
  options.mappings.onChange(() => {
    term?.mappingsChanged();
    term?.podIdentities?.mappingsChanged();
  });
  options.statuses.onChange((role) => term?.statusChanged(role));
  options.revocations.onRunsChange((runs) => term?.revocationsChanged(runs));
  const { podIdentity } = options;
  podIdentity?.identities.onChange(() => term?.podIdentities?.mappingsChanged());
  podIdentity?.mutation.onChange(() => term?.podIdentities?.mutationChanged());
  podIdentity?.statuses.onChange((account) => term?.podIdentities?.statusChanged(account));
  options.accounts.onChange((name) => term?.podIdentities?.accountChanged(name));
  options.pods.onAccountChange((name) => term?.podIdentities?.accountChanged(name));

  return {
    hold: async (lease, signal) => {
      term = new Term(options, { reads, writes, lease, signal, time });
      try {
        takeOver(options, term);
        term.startPodIdentities().catch((error: unknown) => {
          log.error({ err: error }, 'Pod Identity did not start; roles of organizations are still managed');
        });
        while (!signal.aborted) {
          await clock.sleep(config.resyncSeconds * 1000, signal);
          if (!signal.aborted) await resync(options, term, () => lease.holds() && !signal.aborted);
        }
        await term.controller.idle();
        await term.podIdentities?.idle();
      } finally {
        term = undefined;
      }
    },
  };
}

/** Starts from the statuses that the previous holder published: the members of each role. */
function takeOver({ statuses, scope, clock, podIdentity }: LeaderOptions, term: Term): void {
  for (const { status } of statuses.all()) {
    const role = term.placements.role(status.role_arn);
    recover(role, status, scope.namespace, clock.monotonic(), podIdentity !== undefined);
  }
  term.compareAll();
}

/** The regular full comparison. It also retries roles that could not be written. */
async function resync(options: LeaderOptions, term: Term, holds: () => boolean): Promise<void> {
  for (const { conditions } of term.placements.roles()) {
    if (conditions.error) conditions.error.until = Number.NEGATIVE_INFINITY;
  }
  term.compareAll();
  term.podIdentities?.compareAll();
  await clearEndedRequests(options, holds);
  if (holds()) await forgetEndedRevocations(options);
}
