/** Owns the writer's lease: a Kubernetes Lease with one holder at a time, and a margin of time between two holders. */

import type { Kubernetes, LeaseRecord } from '../kubernetes/client.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';

const leaseName = 'irsa-writer';

export interface Lease {
  /** Competes for the lease until `signal` is aborted; then releases it where this replica holds it. */
  run(signal: AbortSignal): Promise<void>;
  /** Whether this replica may write now. It is cheap: call it right before each write. */
  holds(): boolean;
  /** Until when this replica may write, in monotonic milliseconds; in the past when it does not hold the lease. */
  holdsUntil(): number;
  /** The holder as this replica last saw it; '' where there is none. */
  holder(): string;
}

export interface LeaseOptions {
  kubernetes: Pick<Kubernetes, 'getLease' | 'writeLease'>;
  /** Unique to this process. */
  identity: string;
  /** How long other candidates wait for a renewal before they take over. */
  durationMs: number;
  clock: Clock;
  log: Log;
  /** Called when the lease is acquired. Its signal is aborted when the lease is lost or released, and then awaited. */
  hold: (signal: AbortSignal) => Promise<void>;
}

/**
 * Works like Kubernetes' own leader election. A candidate takes over when the record has not changed for the whole
 * duration by its own clock, so that clocks need not agree. A holder stops after two thirds of the duration without a
 * renewal, measured from before the renewal was sent. The third in between covers requests in flight.
 */
export function createLease(options: LeaseOptions): Lease {
  const { kubernetes, identity, durationMs, clock, log } = options;
  const holdMs = (durationMs * 2) / 3;
  const renewMs = durationMs / 6;
  const callDeadlineMs = durationMs / 6;
  let validUntil = Number.NEGATIVE_INFINITY;
  /** The record as last seen, and since when it has been the same. */
  let seen: { record: LeaseRecord; since: number } | undefined;
  /** Whether `seen` may be out of date, after a failed call. */
  let stale = true;
  let term: { ending: AbortController; done: Promise<void> } | undefined;

  const holds = () => clock.monotonic() < validUntil;

  function observe(record: LeaseRecord): void {
    const same = seen && seen.record.renewTime === record.renewTime && seen.record.holder === record.holder;
    seen = { record, since: same && seen ? seen.since : clock.monotonic() };
  }

  async function write(record: Omit<LeaseRecord, 'resourceVersion'>, resourceVersion: string | undefined) {
    observe(await kubernetes.writeLease(leaseName, record, resourceVersion, callDeadlineMs));
  }

  /** Renews the lease, or acquires it where it is free or expired. */
  async function compete(): Promise<void> {
    const sentAt = clock.monotonic();
    // A holder updates the record it wrote last without a read: a conflict shows when another replica changed it.
    const known = holds() && !stale ? seen?.record : undefined;
    const current = known ?? (await kubernetes.getLease(leaseName, callDeadlineMs));
    if (current) observe(current);
    stale = false;
    const mine = current?.holder === identity;
    const expired = seen !== undefined && clock.monotonic() - seen.since >= seen.record.durationSeconds * 1000;
    if (current && current.holder !== '' && !mine && !expired) {
      validUntil = Number.NEGATIVE_INFINITY;
      return;
    }
    const now = new Date(clock.now()).toISOString().replace('Z', '000Z');
    const transitions = (current?.transitions ?? 0) + (mine ? 0 : 1);
    const durationSeconds = Math.ceil(durationMs / 1000);
    await write({ holder: identity, durationSeconds, renewTime: now, transitions }, current?.resourceVersion);
    validUntil = sentAt + holdMs;
  }

  async function endTerm(): Promise<void> {
    validUntil = Number.NEGATIVE_INFINITY;
    const ending = term;
    term = undefined;
    ending?.ending.abort();
    await ending?.done;
  }

  async function giveUp(): Promise<void> {
    const held = holds() && seen?.record.holder === identity ? seen.record : undefined;
    await endTerm();
    if (!held) return;
    const { resourceVersion, ...record } = held;
    await write({ ...record, holder: '' }, resourceVersion).catch((error: unknown) => {
      log.info({ err: error }, 'the lease was not released; it will expire by itself');
    });
  }

  return {
    holds,
    holdsUntil: () => validUntil,
    holder: () => seen?.record.holder ?? '',
    run: async (signal) => {
      while (!signal.aborted) {
        try {
          await compete();
        } catch (error) {
          // A renewal without an answer may have taken effect, so the record is read before the next one. Until the
          // holding time is over, no other replica can have acquired the lease.
          stale = true;
          log.info({ err: error }, 'the lease could not be had or renewed');
        }
        if (holds() && !term) {
          const ending = new AbortController();
          log.info({ identity }, 'holding the lease: this replica writes trust policies');
          const begun = { ending, done: Promise.resolve() };
          begun.done = options.hold(ending.signal).catch((error: unknown) => {
            log.error({ err: error }, 'the leader failed; it starts anew');
            begun.ending.abort();
            if (term === begun) term = undefined;
          });
          term = begun;
        }
        if (!holds() && term) {
          log.warn({ identity }, 'the lease is lost: this replica stops writing');
          await endTerm();
        }
        const untilLost = term ? validUntil - clock.monotonic() : Number.POSITIVE_INFINITY;
        await clock.sleep(Math.max(1, Math.min(stale ? renewMs / 2 : renewMs, untilLost)), signal);
      }
      await giveUp();
    },
  };
}
