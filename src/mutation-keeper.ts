/** Owns the domsed Mutation that gives Pod Identity users their accounts: it says what is wanted, whoever edits it. */
import { isDeepStrictEqual } from 'node:util';
import type { Clock } from './clock.ts';
import { type Drift, newDriftMemory, recordDrift } from './drift.ts';
import type { Kubernetes, Mutation } from './kubernetes.ts';
import { KubernetesError } from './kubernetes-api.ts';
import type { Watched } from './kubernetes-watch.ts';
import type { Log } from './log.ts';
import { accountsInRules, mutationRules, podIdentityMutation, sameRules } from './pod-identity-mutation.ts';
import { isAtLeast } from './resource-version.ts';

export interface MutationKeeper {
  /** Whether the Mutation, as far as we know, gives the account to anybody. */
  gives(account: string): boolean;
  /** Something changed: the Mutation is compared with what is wanted, and written where it differs. */
  sync(): void;
  /** Resolves when no write is under way. */
  idle(): Promise<void>;
}

export interface MutationKeeperOptions {
  kubernetes: Pick<Kubernetes, 'getMutation' | 'createMutation' | 'patchMutation' | 'deleteMutation'>;
  watched: Pick<Watched<Mutation>, 'get'>;
  /** Domino user -> service account, of those who are to get theirs now. */
  wanted: () => ReadonlyMap<string, string>;
  mayWrite: () => boolean;
  /** After each write, and whenever the Mutation is seen to have changed. */
  onChange: () => void;
  onDrift: (drift: Drift, pauseMs: number) => void;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

const retryMs = 1_000;

export function createMutationKeeper(options: MutationKeeperOptions): MutationKeeper {
  const { kubernetes, watched, clock, log, signal } = options;
  const drifts = newDriftMemory();
  /** What we wrote last, or took for what is there; undefined where there is none. */
  let known = watched.get(podIdentityMutation);
  let isDirty = false;
  let working: Promise<void> | undefined;

  /** The watch may be behind our own write. */
  function newest(): Mutation | undefined {
    const seen = watched.get(podIdentityMutation);
    if (!seen || !known) return seen ?? known;
    return isAtLeast(seen.resourceVersion, known.resourceVersion) ? seen : known;
  }

  async function write(): Promise<void> {
    const there = await kubernetes.getMutation(podIdentityMutation);
    noticeDrift(there);
    const pause = (drifts.contested?.until ?? 0) - clock.monotonic();
    if (pause > 0) {
      await clock.sleep(pause, signal);
      isDirty = true;
      return;
    }
    const accounts = options.wanted();
    const isRight = accounts.size === 0 ? there === undefined : sameRules(there?.rules, accounts);
    known = there;
    if (isRight || !options.mayWrite()) return;
    const rules = mutationRules(accounts);
    if (accounts.size === 0) {
      if (there) await kubernetes.deleteMutation(podIdentityMutation, there.resourceVersion);
      known = undefined;
    } else if (there) known = await kubernetes.patchMutation(podIdentityMutation, rules, there.resourceVersion);
    else known = await kubernetes.createMutation(podIdentityMutation, rules);
    log.info({ mutation: podIdentityMutation, users: accounts.size }, 'the Mutation for Pod Identity was written');
  }

  /** What stands there is not what we left there. */
  function noticeDrift(there: Mutation | undefined): void {
    if (known === undefined || isDeepStrictEqual(there?.rules, known.rules)) return;
    const [before, now] = [accountsInRules(known.rules), accountsInRules(there?.rules)];
    const found = { missing: [...before.difference(now)].sort(), extra: [...now.difference(before)].sort() };
    const pause = recordDrift(drifts, found, clock);
    known = there;
    log.warn({ mutation: podIdentityMutation, ...found, pause_ms: pause }, 'somebody else changed the Mutation');
    if (drifts.drift) options.onDrift(drifts.drift, pause);
  }

  async function work(): Promise<void> {
    while (isDirty && !signal.aborted) {
      isDirty = false;
      try {
        await write();
      } catch (error) {
        if (!(error instanceof KubernetesError)) throw error;
        isDirty = true;
        const moved = error.kind === 'conflict' || error.kind === 'not_found';
        if (!moved) log.warn({ err: error }, 'the Mutation for Pod Identity was not written; trying again');
        await clock.sleep(moved ? 1 : retryMs, signal);
      }
      options.onChange();
    }
  }

  function sync(): void {
    isDirty = true;
    working ??= work()
      .catch((error: unknown) => log.error({ err: error }, 'the Mutation for Pod Identity cannot be kept'))
      .finally(() => {
        working = undefined;
        // Somebody asked between the last look and now.
        if (isDirty && !signal.aborted) sync();
      });
  }

  return {
    gives: (account) => accountsInRules(newest()?.rules).has(account),
    sync,
    idle: async () => {
      while (working) await working;
    },
  };
}
