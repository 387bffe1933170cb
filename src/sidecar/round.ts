/** Owns one round: labels, token, service, file, proof; each step in order, and what came of it. */
import type { Clock } from '../clock.ts';
import type { Log } from '../log.ts';
import type { SidecarConfig } from './config.ts';
import { type Disk, readText, writeConfigFile } from './config-file.ts';
import { Failure } from './failure.ts';
import { identifyRun } from './labels.ts';
import { type Changes, compareConfigs, type ParsedConfig, parseConfig } from './profiles.ts';
import { type Proof, prove } from './proof.ts';
import { askService } from './service.ts';
import { fetchToken } from './token.ts';

/** A config that is on disk. */
export interface Written {
  readonly run: string;
  /** False when the file said the same already. */
  readonly written: boolean;
  readonly config: ParsedConfig;
  readonly changes: Changes;
  /** By source profile; none when proofs are off. */
  readonly proofs: readonly Proof[];
}

export interface RoundDeps {
  config: SidecarConfig;
  clock: Clock;
  log: Log;
  disk: Disk;
  random: () => number;
}

/**
 * @param onWritten told as soon as the file is on disk: before the proofs, which take time.
 * @throws Failure
 */
export async function runRound(
  { config, clock, log, disk, random }: RoundDeps,
  signal: AbortSignal,
  onWritten: (written: Written) => void,
): Promise<Written> {
  const identity = identifyRun(readText(config.podInfoPath).text, config.runId);
  const token = await fetchToken(config.apiProxy, clock, signal);
  const { endpoint, certFile, tlsVerify, requestTimeoutMs: deadlineMs } = config;
  const text = await askService({ endpoint, certFile, tlsVerify, deadlineMs, identity, token, clock, log, signal });
  const parsed = parseConfig(text);

  const before = parseOrNothing(readText(config.configFile).text);
  signal.throwIfAborted();
  const written = writeConfigFile(config.configFile, text, disk);
  const changes = compareConfigs(before, parsed);
  const done: Written = { run: identity.run, written, config: parsed, changes, proofs: [] };
  onWritten(done);
  if (!config.prove) return done;

  const { tokenFile, region, stsEndpoint } = config;
  const proofs = await prove(parsed.sources, { tokenFile, region, endpoint: stsEndpoint, clock, random, signal });
  const proved = { ...done, proofs };
  onWritten(proved);
  signal.throwIfAborted();
  const without = proofs.filter(({ problem }) => problem !== undefined);
  if (without.length > 0) {
    const listed = without.slice(0, 3).map(({ profile, problem }) => `${profile.replace(/^src_/, '')}: ${problem}`);
    if (without.length > listed.length) listed.push(`and ${without.length - listed.length} more`);
    throw new Failure('not_proved', { detail: listed.join('; ') });
  }
  return proved;
}

/** What lay there before may be somebody else's, or of an older release: it only serves to tell what is new. */
function parseOrNothing(text: string | undefined): ParsedConfig | undefined {
  try {
    return text === undefined ? undefined : parseConfig(text);
  } catch {
    return undefined;
  }
}
