/** Owns one round: labels, token, service, file, proof; each step in order, and what came of it. */
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
  /** False when the file said the same already. */
  readonly written: boolean;
  readonly config: ParsedConfig;
  readonly changes: Changes;
  /** By profile; none when proofs are off. */
  readonly proofs: readonly Proof[];
}

export interface RoundDeps {
  config: SidecarConfig;
  clock: Clock;
  log: Log;
  disk: Disk;
  random: () => number;
  /** How STS is asked. */
  sts: (signal: AbortSignal) => StsOptions;
  /** Where the sidecar holds the sessions: IRSA_CREDENTIALS=process. */
  sessions?: Sessions | undefined;
  /** Where the sidecar keeps role tokens. */
  roleTokens?: RoleTokens | undefined;
}

/**
 * @param afresh asks STS about every profile, also about those whose session lives.
 * @param onWritten told as soon as the file is on disk: before the proofs, which take time.
 * @throws Failure
 */
export async function runRound(
  { config, clock, log, disk, random, sessions, roleTokens, sts }: RoundDeps,
  signal: AbortSignal,
  afresh: boolean,
  onWritten: (written: Written) => void,
): Promise<Written> {
  /** Who looks into the file, and not at the sidecar, finds out too. */
  function tellInFile(failure: Failure): void {
    try {
      takeAll([
        () => sessions?.endAll(failure),
        () => roleTokens?.drop(),
        () => markConfigFile(config.configFile, oneLine(failure.message), clock.now(), disk),
      ]);
    } catch (error) {
      log.warn({ err: error }, 'a file of the run that is shut out is left, or cannot say so');
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
  // Before the config that names their files.
  await roleTokens?.bring(text, asked, afresh);

  // In the process form, a copy of the service's text serves to find what is new.
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

/** A call to the service in the name of this run, with a new token. @throws Failure */
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

/** A sidecar before this one, in the same pod, may have left sessions that still live. */
export function restoreSessions({
  config,
  sessions,
  roleTokens,
}: Pick<RoundDeps, 'config' | 'sessions' | 'roleTokens'>) {
  const { text } = readText(copyPath(config));
  const parsed = parseOrNothing(text);
  if (!sessions || !parsed || text === undefined) return;
  sessions.restore(parsed);
  roleTokens?.restore(text);
}

/** What lay there before may be another program's, or an older release's: it only serves to find what is new. */
function parseOrNothing(text: string | undefined): ParsedConfig | undefined {
  try {
    return text === undefined ? undefined : parseConfig(text);
  } catch {
    return undefined;
  }
}
