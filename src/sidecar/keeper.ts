/** Owns the state of a running sidecar: its rounds, the record of their results, the sessions and the role tokens. */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { SidecarConfig } from './config.ts';
import { type Disk, systemDisk } from './config-file.ts';
import { openDefaultProfile } from './default-profile.ts';
import type { Failure } from './failure.ts';
import type { SourceProfile } from './profiles.ts';
import { prove } from './proof.ts';
import { provedSources, withDoubt } from './recheck.ts';
import { createRoleTokens } from './role-tokens.ts';
import { restoreSessions, runRound, type Written } from './round.ts';
import { createRounds, type Outcome } from './rounds.ts';
import { sessionFiles } from './session-files.ts';
import { createSessions, type SessionsOptions } from './sessions.ts';
import { problemView, refreshView, stateOf, type Told } from './status.ts';
import { podToken } from './sts.ts';
import type { StsProblem } from './sts-problem.ts';
import { tidySoon } from './tidy.ts';

export interface SidecarOptions {
  config: SidecarConfig;
  clock: Clock;
  log: Log;
  random?: () => number;
  disk?: Disk;
}

export type Keeper = ReturnType<typeof createKeeper>;

/**
 * Creates the rounds and the record of their results. It alone makes the options of calls to STS, so that proofs, checks
 * between rounds and renewals call STS in the same way. @param signal ends the renewal of sessions.
 */
export function createKeeper(options: SidecarOptions, signal: AbortSignal) {
  const { config, clock, log, random = Math.random, disk = systemDisk } = options;
  const roleTokens = keepTokens({ ...options, random, disk });
  let clockAheadMs: number | undefined;
  const onTime = (time: number) => {
    clockAheadMs = clock.now() - time;
  };
  const webIdentity = roleTokens?.webIdentity ?? podToken(config.tokenFile);
  const { region, stsEndpoint: endpoint, proxyEnv } = config;
  const sts = (ending = signal) => ({ region, endpoint, proxyEnv, webIdentity, clock, signal: ending, onTime });
  const files = config.credentials === 'process' ? sessionFiles(config.credentialsDir, disk) : undefined;
  const renew: SessionsOptions['renew'] = (ways, hooks) => prove(ways, { ...sts(), random, ...hooks });
  const sessions = files && createSessions({ files, clock, log, random, renew, onRefused });
  const defaultProfile = config.defaultCredentials ? openDefaultProfile(config.credentialsDir, disk, clock) : undefined;
  let ready = false;
  const readyOnce = Promise.withResolvers<void>();
  const kept = { sessions, defaultProfile, roleTokens, sts, ready: readyOnce.promise };
  let written: Told['written'];
  let lastError: Told['lastError'];
  const deps = { config, clock, log, disk, random, sessions, roleTokens, sts };
  restoreSessions(deps);
  /** The config that the current round, or the last one, wrote to disk. */
  let ofRound: Written | undefined;

  const rounds = createRounds<Written>({
    round: async (ending, cause) => {
      ofRound = undefined;
      files?.writeScript(config.port);
      defaultProfile?.writeToken();
      return await runRound(deps, ending, cause === 'refresh', (what) => {
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
      readyOnce.resolve();
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
    expiresAt: sessions?.expiresAt,
    lapsed: sessions ? sessions.lapsed : roleTokens?.lapsed,
    tokenEndOf: roleTokens?.endOf,
    defaultView: defaultProfile?.view,
    rounds,
  });
  const refresh = async () => refreshView(await rounds.ask('refresh'), ofRound, rounds.nextAt);
  const proved = () => (!written || rounds.running || stateOf(told()) === 'revoked' ? [] : provedSources(written.what));
  function onRefused(source: SourceProfile, problem: StsProblem): void {
    log.warn({ profile: source.name, problem: problem.text }, 'AWS refuses this run now: a new round begins');
    if (written) written = { ...written, what: withDoubt(written.what, source, problem) };
    void rounds.askAfter('recheck');
  }
  return { ...kept, rounds, told, refresh, proved, onRefused, clockAheadMs: () => clockAheadMs };
}

/** With `credentials: process`, role tokens stay in the sidecar's memory and reach no file. */
function keepTokens(options: Required<SidecarOptions>) {
  const { roleTokenDir: folder, podName: pod, credentials, tokenFile } = options.config;
  const kept = folder && { ...options, folder, pod, toFiles: credentials === 'chain', podToken: podToken(tokenFile) };
  return kept ? createRoleTokens(kept) : undefined;
}

/** After so many failures in a row, the log reports an error, since a person should act: with the longest waits, about a minute. */
const patience = 8;

function logFailure(log: Log, failure: Failure, failures: number, nextInMs: number | undefined): void {
  const next_try_seconds = nextInMs === undefined ? undefined : Math.round(nextInMs / 100) / 10;
  const about = { ...problemView(failure), failures, next_try_seconds, err: failure.cause };
  log[failures === patience ? 'error' : 'warn'](about, 'round failed: trying again');
}

function logSuccess(log: Log, { cause, seconds, result }: Outcome<Written>): void {
  if (!result) return;
  const { added, removed, changed, kept } = result.changes;
  const proof_seconds = Object.fromEntries(result.proofs.map((proof) => [proof.profile, proof.seconds]));
  const { refused, unmapped } = result.config;
  const profiles = { added, removed, changed, kept: kept.length };
  log.info(
    { cause, seconds, run: result.run, written: result.written, ...profiles, refused, unmapped, proof_seconds },
    'round done',
  );
}
