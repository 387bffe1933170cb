/** Owns the wiring of the side-car: rounds, their record, HTTP and the token watch, started and stopped together. */
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { SidecarConfig } from './config.ts';
import { type Disk, systemDisk } from './config-file.ts';
import type { Failure } from './failure.ts';
import { type HttpListening, listenHttp, type Reply } from './http.ts';
import { runRound, type Written } from './round.ts';
import { createRounds, type Outcome } from './rounds.ts';
import {
  problemView,
  type RefreshView,
  refreshView,
  type StatusView,
  stateOf,
  statusView,
  type Told,
} from './status.ts';
import { tidySoon } from './tidy.ts';
import { watchTokenFile } from './token-file.ts';

export interface SidecarOptions {
  config: SidecarConfig;
  clock: Clock;
  log: Log;
  random?: () => number;
  disk?: Disk;
}

export interface Sidecar {
  /** `http://127.0.0.1:<port>` */
  readonly url: string;
  /** Resolves when a config was written and proved for the first time; never, when that never happens. */
  readonly ready: Promise<void>;
  status(): StatusView;
  /** What `/refresh` does. */
  refresh(): Promise<RefreshView>;
  /** Ends everything at once; a file is whole whenever this comes. */
  stop(): Promise<void>;
}

/** Begins the first round and listens. @throws where the port is taken. */
export async function startSidecar(options: SidecarOptions): Promise<Sidecar> {
  const { config, clock, log } = options;
  const keeper = createKeeper(options);
  const stopping = new AbortController();
  const { refresh } = keeper;
  const http: HttpListening = await listenHttp(config.port, {
    ready: () => readyReply(keeper.told()),
    status: () => ({ status: 200, body: statusView(keeper.told()) }),
    refresh: async () => {
      const body = await refresh();
      if (body.result === 'ok') return { status: 200, body };
      const wait = body.next_try === null ? undefined : (Date.parse(body.next_try) - clock.now()) / 1000;
      return { status: 503, body, retryAfterSeconds: wait };
    },
  });
  log.info({ port: http.port, refresh_seconds: config.refreshMs / 1000, prove: config.prove }, 'listening');
  void keeper.rounds.ask('start');
  void watchTokenFile(config.tokenFile, clock, stopping.signal, () => {
    log.info('the web identity token was replaced');
    void keeper.rounds.askAfter('token');
  });
  return {
    url: `http://127.0.0.1:${http.port}`,
    ready: keeper.ready,
    status: () => statusView(keeper.told()),
    refresh,
    stop: async () => {
      stopping.abort();
      keeper.rounds.stop();
      await http.close();
    },
  };
}

/** Rounds until one did well, without HTTP. @returns whether one did before `onceTimeoutMs`, or the signal. */
export async function runOnce(options: SidecarOptions, signal: AbortSignal): Promise<boolean> {
  const { config, clock, log } = options;
  const keeper = createKeeper({ ...options, config: { ...config, refreshMs: 0 } });
  const end = new AbortController();
  void keeper.rounds.ask('start');
  const timeout = clock.sleep(config.onceTimeoutMs, AbortSignal.any([signal, end.signal])).then(() => false);
  const done = await Promise.race([keeper.ready.then(() => true), timeout]);
  end.abort();
  keeper.rounds.stop();
  if (!done && !signal.aborted) log.error({ seconds: config.onceTimeoutMs / 1000 }, 'no proved AWS config in time');
  return done;
}

/** The rounds, and the record of what they did. */
function createKeeper({ config, clock, log, random = Math.random, disk = systemDisk }: SidecarOptions) {
  let ready = false;
  let becomeReady: () => void = () => undefined;
  const readyOnce = new Promise<void>((resolve) => {
    becomeReady = resolve;
  });
  let written: Told['written'];
  let lastError: Told['lastError'];
  /** What the round under way, or the last, put on disk. */
  let ofRound: Written | undefined;

  const rounds = createRounds<Written>({
    round: (signal) => {
      ofRound = undefined;
      return runRound({ config, clock, log, disk, random }, signal, (what) => {
        ofRound = what;
        written = { what, at: clock.now() };
      });
    },
    onOutcome: (outcome, nextInMs) => {
      tidySoon();
      if (outcome.failure) {
        lastError = { failure: outcome.failure, at: outcome.at };
        logFailure(log, outcome.failure, rounds.failures, nextInMs);
        return;
      }
      logSuccess(log, outcome);
      ready = true;
      becomeReady();
    },
    refreshMs: config.refreshMs,
    clock,
    random,
  });
  const told = (): Told => ({
    configFile: config.configFile,
    prove: config.prove,
    ready,
    written,
    lastError,
    rounds,
  });
  const refresh = async () => refreshView(await rounds.ask('refresh'), ofRound, rounds.nextAt);
  return { rounds, told, refresh, ready: readyOnce };
}

function readyReply(told: Told): Reply {
  if (told.ready) return { status: 200, body: { status: 'Ready' } };
  const failure = told.rounds.last?.failure;
  const proving = told.written ? 'The AWS config is written; AWS is being asked whether it works.' : undefined;
  const reason = proving ?? 'The first AWS config is being fetched.';
  const body = failure ? problemView(failure) : { reason };
  return { status: 503, body: { status: 'NotReady', state: stateOf(told), ...body } };
}

/** Failures in a row after which a person should act and not wait: with the longest waits, about a minute. */
const patience = 8;

function logFailure(log: Log, failure: Failure, failures: number, nextInMs: number | undefined): void {
  const next_try_seconds = nextInMs === undefined ? undefined : Math.round(nextInMs / 100) / 10;
  const about = { ...problemView(failure), failures, next_try_seconds, err: failure.cause };
  log[failures === patience ? 'error' : 'warn'](about, 'no round: trying again');
}

function logSuccess(log: Log, { cause, seconds, result }: Outcome<Written>): void {
  if (!result) return;
  const { added, removed, changed, kept } = result.changes;
  const proof_seconds = Object.fromEntries(result.proofs.map((proof) => [proof.profile, proof.seconds]));
  const { refused } = result.config;
  const profiles = { added, removed, changed, kept: kept.length };
  log.info(
    { cause, seconds, run: result.run, written: result.written, ...profiles, refused, proof_seconds },
    'round done',
  );
}
