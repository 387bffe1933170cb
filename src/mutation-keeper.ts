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
  /** The other installation that keeps the Mutation, so that this one writes nothing; undefined where none does. */
  keptBy(): string | undefined;
  /** Something changed: the Mutation is compared with what is wanted, and written where it differs. */
  sync(): void;
  /** Resolves when no write is under way. */
  idle(): Promise<void>;
}

export interface MutationKeeperOptions {
  kubernetes: Pick<Kubernetes, 'getMutation' | 'createMutation' | 'patchMutation' | 'deleteMutation'>;
  watched: Pick<Watched<Mutation>, 'get'>;
  /** What the Mutation says where it is ours; one that says nothing is too. */
  installation: string;
  /** Domino user -> service account, of those who are to get theirs now. */
  wanted: () => ReadonlyMap<string, string>;
  mayWrite: () => boolean;
  /** After each write, and each look that found it as it is to be. */
  onChange: () => void;
  onDrift: (drift: Drift, pauseMs: number) => void;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

type Accounts = ReadonlyMap<string, string>;

const firstRetryMs = 1_000;
const longestRetryMs = 30_000;
const patientConflicts = 5;

export function createMutationKeeper(options: MutationKeeperOptions): MutationKeeper {
  const { kubernetes, watched, clock, log, signal } = options;
  const drifts = newDriftMemory();
  /** What we wrote last, or found there; undefined where there was none, or nobody has looked yet. */
  let known: Mutation | undefined;
  /** The newest version of it that is known to be gone: the watch may still show it. */
  let gone: string | undefined;
  /** What was written without an answer: finding it there is no doing of somebody else's. */
  let unanswered: Accounts | undefined;
  /** For whom it was written last. */
  let written: Accounts | undefined;
  let isDirty = false;
  let failures = 0;
  let wake = new AbortController();
  let working: Promise<void> | undefined;

  /** The watch may be behind our own write. */
  function newest(): Mutation | undefined {
    const found = watched.get(podIdentityMutation);
    const seen = found && gone !== undefined && isAtLeast(gone, found.resourceVersion) ? undefined : found;
    if (!seen || !known) return seen ?? known;
    return isAtLeast(seen.resourceVersion, known.resourceVersion) ? seen : known;
  }

  function isOthers(there: Mutation | undefined): boolean {
    return (there?.installation ?? options.installation) !== options.installation;
  }

  function remember(there: Mutation | undefined): void {
    if (!there) gone = newest()?.resourceVersion ?? gone;
    known = there;
  }

  /** @returns after how many milliseconds to look again. */
  async function write(): Promise<number | undefined> {
    const there = await kubernetes.getMutation(podIdentityMutation);
    const accounts = options.wanted();
    if (isOthers(there)) {
      known = undefined;
      if (accounts.size === 0) return undefined;
      throw new KubernetesError('refused', `the installation in namespace ${there?.installation} keeps the Mutation`);
    }
    noticeDrift(there);
    remember(there);
    const isRight = accounts.size === 0 ? there === undefined : sameRules(there?.rules, accounts);
    if (isRight || !options.mayWrite()) return undefined;
    const pause = (drifts.contested?.until ?? 0) - clock.monotonic();
    if (pause > 0 && isDeepStrictEqual(accounts, written)) return pause;
    unanswered = accounts;
    remember(await put(there, accounts));
    unanswered = undefined;
    written = accounts;
    log.info({ mutation: podIdentityMutation, users: accounts.size }, 'the Mutation for Pod Identity was written');
    return undefined;
  }

  async function put(there: Mutation | undefined, accounts: Accounts): Promise<Mutation | undefined> {
    const rules = mutationRules(accounts);
    if (accounts.size > 0 && there) {
      return kubernetes.patchMutation(podIdentityMutation, rules, there.resourceVersion);
    }
    if (accounts.size > 0) return kubernetes.createMutation(podIdentityMutation, rules);
    if (there) await kubernetes.deleteMutation(podIdentityMutation, there.resourceVersion);
    return undefined;
  }

  /** What stands there is not what we left there. */
  function noticeDrift(there: Mutation | undefined): void {
    if (known === undefined || isDeepStrictEqual(there?.rules, known.rules)) return;
    if (unanswered && isAsWritten(there, unanswered)) return;
    const [before, now] = [accountsInRules(known.rules), accountsInRules(there?.rules)];
    const found = { missing: [...before.difference(now)].sort(), extra: [...now.difference(before)].sort() };
    const pause = recordDrift(drifts, found, clock);
    log.warn({ mutation: podIdentityMutation, ...found, pause_ms: pause }, 'somebody else changed the Mutation');
    if (drifts.drift) options.onDrift(drifts.drift, pause);
  }

  async function work(): Promise<void> {
    while (isDirty && !signal.aborted) {
      isDirty = false;
      const again = await attempt();
      if (again === undefined) continue;
      isDirty = true;
      wake = new AbortController();
      if (!isWorthAWrite()) await clock.sleep(again, AbortSignal.any([wake.signal, signal]));
    }
  }

  /** @returns after how many milliseconds to try again. */
  async function attempt(): Promise<number | undefined> {
    try {
      const again = await write();
      failures = 0;
      if (again === undefined) options.onChange();
      return again;
    } catch (error) {
      if (!(error instanceof KubernetesError)) throw error;
      failures += 1;
      // Somebody else wrote it at the same moment: it is read again at once, unless that is not what it is.
      const moved = error.kind === 'conflict' || error.kind === 'not_found';
      if (moved && failures <= patientConflicts) return 1;
      const about = { err: error, mutation: podIdentityMutation, failures };
      log.warn(about, 'the Mutation for Pod Identity was not written; trying again');
      return Math.min(longestRetryMs, firstRetryMs * 2 ** (failures - 1));
    }
  }

  /** An administrator's change does not wait with a contested one; what cannot be written waits on. */
  function isWorthAWrite(): boolean {
    return failures === 0 && !isDeepStrictEqual(options.wanted(), written);
  }

  function sync(): void {
    isDirty = true;
    if (isWorthAWrite()) wake.abort();
    working ??= work()
      .catch((error: unknown) => log.error({ err: error }, 'the Mutation for Pod Identity cannot be kept'))
      .finally(() => {
        working = undefined;
        // Somebody asked between the last look and now.
        if (isDirty && !signal.aborted) sync();
      });
  }

  return {
    gives: (account) => {
      const there = newest();
      return !isOthers(there) && accountsInRules(there?.rules).has(account);
    },
    keptBy: () => {
      const there = newest();
      return isOthers(there) ? there?.installation : undefined;
    },
    sync,
    idle: async () => {
      while (working) await working;
    },
  };
}

function isAsWritten(there: Mutation | undefined, accounts: Accounts): boolean {
  return accounts.size === 0 ? there === undefined : sameRules(there?.rules, accounts);
}
