/** Owns one round: reads the labels, fetches a token, calls the service, writes the config file and proves its profiles. */
import { join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import type { SidecarConfig } from './config.ts';
import { type Disk, markConfigFile, readText, writeConfigFile } from './config-file.ts';
import { requireConfigForm } from './config-form.ts';
import { Failure, oneLine } from './failure.ts';
import { identifyRun } from './labels.ts';
import { processForm } from './process-form.ts';
import { type Changes, compareConfigs, type ParsedConfig, parseConfig } from './profiles.ts';
import { type Proof, prove } from './proof.ts';
import type { RoleTokens } from './role-tokens.ts';
import { askService, type ServiceCall } from './service-client.ts';
import { takeAll } from './session-files.ts';
import type { Sessions } from './sessions.ts';
import type { StsOptions } from './sts.ts';
import { fetchToken } from './token.ts';

/** A config that is on disk. */
export interface Written {
  readonly run: string;
  /** False when the file had the same content already. */
  readonly written: boolean;
  readonly config: ParsedConfig;
  readonly changes: Changes;
  /** One for each profile; empty when proofs are off. */
  readonly proofs: readonly Proof[];
}

export interface RoundDeps {
  config: SidecarConfig;
  clock: Clock;
  log: Log;
  disk: Disk;
  random: () => number;
  /** The options for calls to STS. */
  sts: (signal: AbortSignal) => StsOptions;
  /** Set where the sidecar holds the sessions: IRSA_CREDENTIALS=process. */
  sessions?: Sessions | undefined;
  /** Set where the sidecar keeps role tokens. */
  roleTokens?: RoleTokens | undefined;
}

/**
 * @param afresh proves every profile with STS, even one whose session is live.
 * @param onWritten called as soon as the file is on disk, before the proofs, which take time; and again after them.
 * @throws Failure
 */
export async function runRound(
  { config, clock, log, disk, random, sessions, roleTokens, sts }: RoundDeps,
  signal: AbortSignal,
  afresh: boolean,
  onWritten: (written: Written) => void,
): Promise<Written> {
  /** Tells people who look into the file, and not at the sidecar, that the run was revoked. */
  function tellInFile(failure: Failure): void {
    try {
      takeAll([
        () => sessions?.endAll(failure),
        () => roleTokens?.drop(),
        () => markConfigFile(config.configFile, oneLine(failure.message), clock.now(), disk),
      ]);
    } catch (error) {
      log.warn({ err: error }, 'a file of the revoked run could not be removed or marked');
    }
  }

  const asked = await serviceCall({ config, clock, log }, signal);
  const { identity } = asked;
  const text = await askService(asked).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'run_revoked' && !signal.aborted) tellInFile(error);
    throw error;
  });
  const parsed = parseConfig(text);
  requireConfigForm(text, config.tokenFile, config.roleTokenDir);
  // Tokens come first: the config file names their files.
  await roleTokens?.bring(parsed, asked, afresh);

  // With IRSA_CREDENTIALS=process the config file has another form, so a copy of the service's text serves for the comparison.
  const copy = copyPath(config);
  const before = parseOrNothing(readText(sessions ? copy : config.configFile).text);
  signal.throwIfAborted();
  sessions?.keepTo(parsed);
  const profiles = sessions ? processForm(text, parsed, config.credentialsDir) : text;
  const written = writeConfigFile(config.configFile, profiles, disk);
  if (sessions) writeConfigFile(copy, text, disk);
  const changes = compareConfigs(before, parsed);
  const done: Written = { run: identity.run, written, config: parsed, changes, proofs: [] };
  onWritten(done);
  if (!config.prove && !sessions) return done;

  const hooks = sessions && { ...sessions.hooks, ...(afresh ? { known: () => undefined } : {}) };
  const proofs = await prove(parsed, { ...sts(signal), random, ...hooks });
  sessions?.explain(parsed, proofs);
  const proved = { ...done, proofs };
  onWritten(proved);
  signal.throwIfAborted();
  const without = proofs.filter(({ problem }) => problem !== undefined);
  if (without.length > 0 && config.prove) {
    const listed = without
      .slice(0, 3)
      .map(({ profile, problem }) => `${profile}: at the ${problem?.hop} hop, ${problem?.text}`);
    if (without.length > listed.length) listed.push(`and ${without.length - listed.length} more`);
    throw new Failure('not_proved', { detail: listed.join('; ') });
  }
  return proved;
}

/** Prepares a call to the service for this run, with a new token. @throws Failure */
export async function serviceCall(
  { config, clock, log }: Pick<RoundDeps, 'config' | 'clock' | 'log'>,
  signal: AbortSignal,
): Promise<ServiceCall> {
  const identity = identifyRun(readText(config.podInfoPath).text, config.runId);
  const token = await fetchToken(config.apiProxy, clock, signal);
  const { endpoint, certFile, tlsVerify, requestTimeoutMs: deadlineMs } = config;
  const roleTokens = config.roleTokenDir !== undefined;
  return { endpoint, certFile, tlsVerify, deadlineMs, identity, roleTokens, token, clock, log, signal };
}

const copyPath = ({ credentialsDir }: SidecarConfig) => join(credentialsDir, 'chain.config');

/** Takes over live sessions that an earlier sidecar in the same pod left. */
export function restoreSessions({ config, sessions }: RoundDeps): void {
  const parsed = sessions && parseOrNothing(readText(copyPath(config)).text);
  if (parsed) sessions.restore(parsed);
}

/** An earlier file may come from another program or an older release. It serves only for the comparison, so errors are ignored. */
function parseOrNothing(text: string | undefined): ParsedConfig | undefined {
  try {
    return text === undefined ? undefined : parseConfig(text);
  } catch {
    return undefined;
  }
}
