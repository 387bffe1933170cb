/** Owns whether IAM has a role that an administrator names: as the leader published, else by a short reading of its own. */
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { Clock } from '../lib/clock.ts';
import type { TrustStatus } from './status.ts';

/** @returns what is known of each of these proxy roles; it never rejects. */
/** What is known of a proxy role: whether IAM has it, or why that is not known. */
export type RoleKnown = 'found' | 'missing' | 'unknown';

export type RoleLookup = (arns: readonly string[]) => Promise<ReadonlyMap<string, RoleKnown>>;

/** The leader's budget has the account's reads: an administrator's call adds so many at most. */
const mostReads = 10;
/** Clients wait for the answer. */
const deadlineMs = 2_000;

export interface RoleLookupOptions {
  status: (roleArn: string) => TrustStatus | undefined;
  iam: Pick<Iam, 'getTrustPolicy'>;
  clock: Clock;
}

export function createRoleLookup({ status, iam, clock }: RoleLookupOptions): RoleLookup {
  async function read(arn: string, signal: AbortSignal): Promise<RoleKnown> {
    try {
      await iam.getTrustPolicy(arn, signal);
      return 'found';
    } catch (error) {
      return error instanceof AwsError && error.code === 'role_not_found' ? 'missing' : 'unknown';
    }
  }

  return async (arns) => {
    // A role that was missing may have been made since, and one that is there does not go unnoticed.
    const fresh = arns.filter((arn) => {
      const published = status(arn);
      return !published || published.error?.code === 'role_not_found';
    });
    const late = new AbortController();
    const done = new AbortController();
    void clock.sleep(deadlineMs, done.signal).then(() => late.abort());
    const found = await Promise.all(
      fresh.slice(0, mostReads).map(async (arn) => [arn, await read(arn, late.signal)] as const),
    );
    done.abort();
    const said = new Map<string, RoleKnown>(found);
    return new Map(arns.map((arn) => [arn, said.get(arn) ?? (fresh.includes(arn) ? 'unknown' : 'found')]));
  };
}
