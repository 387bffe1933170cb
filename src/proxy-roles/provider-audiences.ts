/** Owns the list of audiences of the cluster's OIDC provider in IAM: fetched rarely, once for all roles. */
import { callDeadline, type HeldLease } from '../aws/call.ts';
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface ProviderAudiences {
  /**
   * Whether the provider lists the audience, so that AWS accepts its tokens; undefined where the list is not known.
   * @param isMissing whether an earlier call found it missing; if not, a list without it is fetched again at once.
   */
  lists(audience: string, isMissing: boolean): Promise<boolean | undefined>;
}

export interface ProviderAudiencesOptions {
  iam: Pick<Iam, 'clientIdsOf'>;
  scope: { providerArn: string };
  reads: RateLimiter;
  lease: HeldLease;
  signal: AbortSignal;
  clock: Clock;
  log: Log;
}

/** How long the list counts for an audience in it: audiences are rarely removed. */
const listedMs = 60_000;
/** How long the list counts for a missing audience: roles that are checked at about the same time share one call. */
const missingMs = 10_000;

export function createProviderAudiences(options: ProviderAudiencesOptions): ProviderAudiences {
  const { iam, scope, reads, signal, clock, log } = options;
  let known: { ids: ReadonlySet<string> | undefined; at: number } | undefined;
  let fetching: Promise<void> | undefined;
  let isDenied = false;

  async function fetchList(): Promise<void> {
    const at = clock.monotonic();
    if (!(await reads.take(false, signal))) return;
    try {
      known = { ids: new Set(await iam.clientIdsOf(scope.providerArn, callDeadline(options))), at };
      reads.succeeded();
      isDenied = false;
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (error.code === 'throttled') reads.throttled();
      // Without the permission the list is unknown, and tokens may still work.
      if (!isDenied)
        log.warn({ err: error, provider: scope.providerArn }, 'the audiences of the OIDC provider are not known');
      isDenied = error.code === 'access_denied';
      known = { ids: undefined, at };
    }
  }

  return {
    lists: async (audience, isMissing) => {
      const age = known ? clock.monotonic() - known.at : Infinity;
      if (age > (known?.ids?.has(audience) ? listedMs : isMissing || !known?.ids ? missingMs : 0)) {
        fetching ??= fetchList().finally(() => {
          fetching = undefined;
        });
        await fetching;
      }
      return known?.ids?.has(audience);
    },
  };
}
