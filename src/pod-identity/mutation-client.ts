/** Owns the domsed Mutation that gives Pod Identity users their accounts: writes it as wanted, also after external changes. */
import { isDeepStrictEqual } from 'node:util';
import type { Kubernetes, Mutation } from '../kubernetes/client.ts';
import { isMoved, isRefused, KubernetesError } from '../kubernetes/error.ts';
import { isAtLeast } from '../kubernetes/resource-version.ts';
import type { Watched } from '../kubernetes/watch.ts';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { type Drift, newDriftMemory, reportDrift } from '../reconcile/drift.ts';
import { backOff, done, failed, ReconcileQueue, type Result, requeue } from '../reconcile/queue.ts';
import { accountsInRules, mutationRules, podIdentityMutation, sameRules } from './mutation-rules.ts';

export interface MutationKeeperOptions {
  kubernetes: Pick<Kubernetes, 'getMutation' | 'createMutation' | 'patchMutation' | 'deleteMutation'>;
  watched: Pick<Watched<Mutation>, 'get'>;
  /** The installation that the Mutation names where it is ours; one that names none is ours, too. */
  installation: string;
  /** Domino user -> service account, for the users who should get theirs now. */
  wanted: () => ReadonlyMap<string, string>;
  mayWrite: () => boolean;
  /** Called after each write, and after each read that found the Mutation as wanted. */
  onChange: () => void;
  onDrift: (drift: Drift, pauseMs: number) => void;
  clock: Clock;
  log: Log;
  signal: AbortSignal;
}

type Accounts = ReadonlyMap<string, string>;

const movedMs = 1;
const firstRetryMs = 1_000;
const patientConflicts = 5;

/** Compares the Mutation with what is wanted each time that `sync` is called, and writes it where it differs. */
export class MutationKeeper {
  readonly #options: MutationKeeperOptions;
  readonly #queue: ReconcileQueue;
  readonly #drifts = newDriftMemory();
  /** The Mutation as last written or read; undefined where there was none, or before the first read. */
  #known: Mutation | undefined;
  /** The newest version of it that is known to be deleted: the watch may still show it. */
  #gone: string | undefined;
  /** What a write without an answer sent: finding it in the Mutation is no external change. */
  #unanswered: Accounts | undefined;
  #written: Accounts | undefined;
  #refusal: string | undefined;
  /** Until when no comparison is made, unless other accounts are wanted after a contested write. */
  #rest = { until: 0, isContested: false };

  constructor(options: MutationKeeperOptions) {
    this.#options = options;
    const reconcile = (_name: string, failures: number) => this.#attempt(failures);
    this.#queue = new ReconcileQueue({ ...options, reconcile, of: 'the Mutation', workers: 1 });
  }

  /** Whether the Mutation, as far as we know, gives the account to any user. */
  gives(account: string): boolean {
    const there = this.#newest();
    return !this.#isUnmanaged(there) && accountsInRules(there?.rules).has(account);
  }

  /** The other installation that keeps the Mutation, so that this one writes nothing; undefined where none does. */
  keptBy(): string | undefined {
    const there = this.#newest();
    return this.#isUnmanaged(there) ? there?.installation : undefined;
  }

  /** What Kubernetes answered to the last write, where it refused that. */
  refusal(): string | undefined {
    return this.#refusal;
  }

  /** Schedules a comparison of the Mutation with what is wanted. */
  sync(): void {
    this.#queue.due(podIdentityMutation, 0);
  }

  /** Resolves when no write is under way. */
  idle(): Promise<void> {
    return this.#queue.idle();
  }

  /** The newest known version: the watch may be behind our own write. */
  #newest(): Mutation | undefined {
    const found = this.#options.watched.get(podIdentityMutation);
    const isGone = found && this.#gone !== undefined && isAtLeast(this.#gone, found.resourceVersion);
    const seen = isGone ? undefined : found;
    if (!seen || !this.#known) return seen ?? this.#known;
    return isAtLeast(seen.resourceVersion, this.#known.resourceVersion) ? seen : this.#known;
  }

  #isUnmanaged(there: Mutation | undefined): boolean {
    return (there?.installation ?? this.#options.installation) !== this.#options.installation;
  }

  #remember(there: Mutation | undefined): void {
    if (!there) this.#gone = this.#newest()?.resourceVersion ?? this.#gone;
    this.#known = there;
  }

  async #attempt(failures: number): Promise<Result> {
    const { clock } = this.#options;
    const rest = this.#rest.until - clock.monotonic();
    // An administrator's change does not wait for the end of a contest, but it does wait after a write that failed.
    const isWanted = this.#rest.isContested && !isDeepStrictEqual(this.#options.wanted(), this.#written);
    if (rest > 0 && !isWanted) return requeue(rest);
    return this.#write().then(
      (pause) => this.#succeeded(pause),
      (error: unknown) => this.#failed(error, failures),
    );
  }

  #succeeded(pause: number): Result {
    this.#refusal = undefined;
    this.#rest = { until: this.#options.clock.monotonic() + pause, isContested: true };
    if (pause > 0) return requeue(pause);
    this.#options.onChange();
    return done;
  }

  #failed(error: unknown, before: number): Result {
    if (!(error instanceof KubernetesError)) throw error;
    const { clock, log, onChange } = this.#options;
    const failures = before + 1;
    this.#refusal = isRefused(error) ? error.said : undefined;
    // Another client wrote at the same moment: the Mutation is read again at once, unless that happens many times.
    const isPatient = isMoved(error) && failures <= patientConflicts;
    const retryMs = isPatient ? movedMs : firstRetryMs;
    this.#rest = { until: clock.monotonic() + backOff(retryMs, before), isContested: false };
    if (isPatient) return failed(retryMs);
    const about = { err: error, mutation: podIdentityMutation, failures };
    log[this.#refusal === undefined ? 'warn' : 'error'](
      about,
      'the Mutation for Pod Identity was not written; trying again',
    );
    // The accounts that wait for the Mutation report the refusal.
    if (this.#refusal !== undefined) onChange();
    return failed(retryMs);
  }

  /** @returns for how many milliseconds a contested write waits. */
  async #write(): Promise<number> {
    const { kubernetes, wanted, mayWrite, clock, log } = this.#options;
    const there = await kubernetes.getMutation(podIdentityMutation);
    const accounts = wanted();
    if (this.#isUnmanaged(there)) {
      this.#known = undefined;
      if (accounts.size === 0) return 0;
      throw new KubernetesError('refused', `the installation in namespace ${there?.installation} keeps the Mutation`);
    }
    this.#noticeDrift(there);
    this.#remember(there);
    if (isAsWritten(there, accounts) || !mayWrite()) return 0;
    const pause = (this.#drifts.contested?.until ?? 0) - clock.monotonic();
    if (pause > 0 && isDeepStrictEqual(accounts, this.#written)) return pause;
    this.#unanswered = accounts;
    this.#remember(await this.#put(there, accounts));
    this.#unanswered = undefined;
    this.#written = accounts;
    log.info({ mutation: podIdentityMutation, users: accounts.size }, 'the Mutation for Pod Identity was written');
    return 0;
  }

  async #put(there: Mutation | undefined, accounts: Accounts): Promise<Mutation | undefined> {
    const { kubernetes } = this.#options;
    const rules = mutationRules(accounts);
    if (accounts.size > 0 && there) {
      return kubernetes.patchMutation(podIdentityMutation, rules, there.resourceVersion);
    }
    if (accounts.size > 0) return kubernetes.createMutation(podIdentityMutation, rules);
    if (there) await kubernetes.deleteMutation(podIdentityMutation, there.resourceVersion);
    return undefined;
  }

  #noticeDrift(there: Mutation | undefined): void {
    const known = this.#known;
    if (known === undefined || isDeepStrictEqual(there?.rules, known.rules)) return;
    if (this.#unanswered && isAsWritten(there, this.#unanswered)) return;
    const [before, now] = [accountsInRules(known.rules), accountsInRules(there?.rules)];
    const found = { missing: [...before.difference(now)].sort(), extra: [...now.difference(before)].sort() };
    const what = { mutation: podIdentityMutation };
    reportDrift(this.#drifts, found, this.#options, what, 'the Mutation was changed externally');
  }
}

function isAsWritten(there: Mutation | undefined, accounts: Accounts): boolean {
  return accounts.size === 0 ? there === undefined : sameRules(there?.rules, accounts);
}
