/** Owns the check whether IAM has the roles that an administrator names: from published statuses, otherwise from IAM. */
import { AwsError } from '../aws/error.ts';
import type { Iam } from '../aws/iam.ts';
import type { Clock } from '../lib/clock.ts';
import type { TrustStatus } from './status.ts';

/** Whether IAM has a proxy role, as far as that is known. */
export type RoleKnown = 'found' | 'missing' | 'unknown';

/** @returns what is known of each of these proxy roles; it never rejects. */
export type RoleLookup = (arns: readonly string[]) => Promise<ReadonlyMap<string, RoleKnown>>;

/** The most reads that one administrator's call adds: the leader needs the account's rate of calls. */
const mostReads = 10;
/** Short, since a client waits for the answer. */
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
    // A missing role may have been created since. One that the leader reads needs no call: its status would say if it were gone.
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
