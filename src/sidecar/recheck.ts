/**
 * Owns the check between rounds whether AWS still accepts this run: one call to STS, so that the sidecar notices a revocation
 * within a minute or two, and not only at its next round.
 */
import type { Clock } from '../lib/clock.ts';
import type { SourceProfile } from './profiles.ts';
import type { Written } from './round.ts';
import type { HopResult } from './sts.ts';
import type { StsProblem } from './sts-problem.ts';

export interface RecheckOptions {
  /** The interval, give or take a tenth; 0 is off. */
  everyMs: number;
  clock: Clock;
  random: () => number;
  signal: AbortSignal;
  /** The sources of profiles that count as proved; none while a round is under way. */
  proved: () => readonly SourceProfile[];
  ask: (source: SourceProfile) => Promise<HopResult>;
  onRefused: (source: SourceProfile, problem: StsProblem) => void;
}

/** Checks one source profile at a time, each in turn; ends with `signal`. */
export async function recheck(options: RecheckOptions): Promise<void> {
  const { everyMs, clock, random, signal, proved, ask, onRefused } = options;
  if (everyMs === 0) return;
  for (let turn = 0; ; turn += 1) {
    await clock.sleep(everyMs * (0.9 + 0.2 * random()), signal);
    if (signal.aborted) return;
    const sources = proved();
    const source = sources[turn % sources.length];
    if (!source) continue;
    const { problem } = await ask(source);
    // Other problems, such as a network failure, may pass by themselves; the rounds handle them.
    if (problem?.code === 'source_refused' && !signal.aborted) onRefused(source, problem);
  }
}

export function provedSources({ config, proofs }: Written): SourceProfile[] {
  const proved = new Set(proofs.filter(({ problem }) => !problem).map(({ profile }) => profile));
  const used = new Set(config.profiles.filter(({ name }) => proved.has(name)).map(({ source }) => source));
  return config.sources.filter(({ name }) => used.has(name));
}

/** Replaces the proofs of all profiles with this source by the problem, unless the source names another role by now. */
export function withDoubt(written: Written, source: SourceProfile, problem: StsProblem): Written {
  const now = written.config.sources.find(({ name }) => name === source.name);
  if (now?.roleArn !== source.roleArn) return written;
  const doubted = new Set(
    written.config.profiles.filter((each) => each.source === source.name).map(({ name }) => name),
  );
  return {
    ...written,
    proofs: written.proofs.map((proof) => (doubted.has(proof.profile) ? { ...proof, problem } : proof)),
  };
}
