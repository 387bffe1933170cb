/** Owns what the cluster's OIDC provider in IAM lists: asked seldom, for all roles at once. */
import { callDeadline, type HeldLease } from '../aws/call.ts';
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { RateLimiter } from '../aws/rate-limiter.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

export interface ProviderAudiences {
  /**
   * Whether tokens of this audience are taken; undefined where AWS does not say.
   * @param isMissing as it was known before: a first look at an audience that is not listed asks anew.
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

/** What is listed stays listed, as a rule. */
const listedMs = 60_000;
/** What was missing is looked for again, once for all roles that come at about the same time. */
const missingMs = 10_000;

export function createProviderAudiences(options: ProviderAudiencesOptions): ProviderAudiences {
  const { iam, scope, reads, signal, clock, log } = options;
  let known: { ids: ReadonlySet<string> | undefined; at: number } | undefined;
  let asking: Promise<void> | undefined;
  let isDenied = false;

  async function ask(): Promise<void> {
    const at = clock.monotonic();
    if (!(await reads.take(false, signal))) return;
    try {
      known = { ids: new Set(await iam.clientIdsOf(scope.providerArn, callDeadline(options))), at };
      reads.succeeded();
      isDenied = false;
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      if (error.code === 'throttled') reads.throttled();
      // Without the permission nothing is known, and tokens may work all the same.
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
        asking ??= ask().finally(() => {
          asking = undefined;
        });
        await asking;
      }
      return known?.ids?.has(audience);
    },
  };
}
