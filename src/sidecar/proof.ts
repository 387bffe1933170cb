/**
 * Owns the proof that a profile works: tries each of its two hops until STS accepts it or the profile's minute has passed,
 * since IAM takes seconds to propagate a change.
 */
import { createGate, type Gate } from './gate.ts';
import type { ParsedConfig, SourceProfile, TargetProfile } from './profiles.ts';
import { assumeSource, assumeTarget, type HopResult, type IssuedSession, type StsOptions } from './sts.ts';
import { type StsProblem, stsProblem } from './sts-problem.ts';

/** The result for one profile. */
export interface Proof {
  readonly profile: string;
  /** From the first try until STS accepted the last hop, or until the proof gave up. */
  readonly seconds: number;
  /** Of both hops together. */
  readonly tries: number;
  /** Why it is not proved; undefined when it is. */
  readonly problem: StsProblem | undefined;
}

export interface ProofOptions extends StsOptions {
  random: () => number;
  /** Returns a proof that is still valid, so that STS is not called. */
  known?: (profile: TargetProfile, source: SourceProfile) => Proof | undefined;
  /** Receives the session of a proved profile; without this hook, the session is dropped. */
  onSession?: (way: Way, session: IssuedSession, proof: Proof) => void;
}

/** A profile and its source profile. */
export interface Way {
  readonly profile: TargetProfile;
  readonly source: SourceProfile;
}

const patienceMs = 60_000;
const [firstWaitMs, longestWaitMs] = [200, 3_000];
/** A config file with thousands of profiles must not open thousands of connections. */
const callsAtOnce = 8;

/** @returns a proof for each profile that people use. Profiles that share a proxy role share its session. */
export async function prove(
  { profiles, sources }: Pick<ParsedConfig, 'profiles' | 'sources'>,
  options: ProofOptions,
): Promise<Proof[]> {
  const gate = createGate(callsAtOnce);
  const shared = new Map<string, Promise<Hop>>();
  const bySource = (source: SourceProfile): Promise<Hop> => {
    const { place } = options.webIdentity(source);
    const key = [source.roleArn, source.sessionName, source.region, place].join(' ');
    const asked = shared.get(key) ?? untilAgreed(options, gate, () => assumeSource(source, options));
    shared.set(key, asked);
    return asked;
  };
  return await Promise.all(
    profiles.map(async (profile) => {
      const source = sources.find(({ name }) => name === profile.source);
      if (!source) return { profile: profile.name, seconds: 0, tries: 0, problem: stsProblem('source', 'no_source') };
      return options.known?.(profile, source) ?? (await proveOne({ profile, source }, bySource, options, gate));
    }),
  );
}

async function proveOne(
  way: Way,
  bySource: (source: SourceProfile) => Promise<Hop>,
  options: ProofOptions,
  gate: Gate,
): Promise<Proof> {
  const { profile, source } = way;
  const start = options.clock.monotonic();
  let { result, tries } = await bySource(source);
  const { session } = result;
  // A profile that is its own source has no second hop.
  if (session && profile.name !== profile.source) {
    const hop = await untilAgreed(options, gate, () => assumeTarget(profile, session, options), start);
    result = hop.result;
    tries += hop.tries;
  }
  const seconds = (options.clock.monotonic() - start) / 1000;
  const proof = { profile: profile.name, seconds, tries, problem: result.problem };
  if (result.session) options.onSession?.(way, result.session, proof);
  return proof;
}

interface Hop {
  readonly result: HopResult;
  readonly tries: number;
}

/** Calls `ask` at least once, and again for up to `patienceMs`. @param start when that time began, on the monotonic clock. */
async function untilAgreed(
  { clock, random, signal }: ProofOptions,
  gate: Gate,
  ask: () => Promise<HopResult>,
  start: number = clock.monotonic(),
): Promise<Hop> {
  for (let tries = 1; ; tries += 1) {
    const result = await gate(ask);
    const left = start + patienceMs - clock.monotonic();
    if (result.problem === undefined || left <= 0 || signal.aborted) return { result, tries };
    const wait = Math.min(longestWaitMs, firstWaitMs * 2 ** (tries - 1)) * (0.5 + random() / 2);
    await clock.sleep(Math.min(wait, left), signal);
  }
}
