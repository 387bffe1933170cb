/**
 * Owns the sessions that the sidecar holds for the workload: which profile has one and until when, their renewal at half their
 * life, and their end. The keys themselves are only in the files.
 */
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { type Failure, oneLine } from './failure.ts';
import type { ParsedConfig, RefusedRole, SourceProfile } from './profiles.ts';
import type { Proof, ProofOptions, Way } from './proof.ts';
import type { SessionFiles } from './session-files.ts';
import type { IssuedSession } from './sts.ts';
import { type StsProblem, stsProblem } from './sts-problem.ts';

/** An hour, the longest that STS allows when a role assumes a role. */
export const sessionSeconds = 3600;

export interface Sessions {
  /** Hooks for `prove`: they skip profiles whose proof is still valid, and store new sessions. */
  readonly hooks: Pick<ProofOptions, 'durationSeconds' | 'onSession' | 'known'>;
  /** Restores the sessions that an earlier sidecar left in the files; they are due for renewal at once. */
  restore(config: ParsedConfig): void;
  /** Ends the sessions of profiles that are no longer in the config, or lead to another role. @throws Failure */
  keepTo(config: ParsedConfig): void;
  /** Writes for each profile without a session why it has none. @throws Failure */
  explain(config: ParsedConfig, proofs: readonly Proof[]): void;
  /** Ends all sessions. @throws Failure */
  endAll(why: Failure): void;
  /** When the live session of a profile expires, milliseconds since the epoch; undefined where there is none. */
  expiresAt(profile: string): number | undefined;
  /** Why a profile's session has expired without renewal; undefined where its session is live, or it never had one. */
  lapsed(profile: string): StsProblem | undefined;
  /** Renews sessions until `signal`. */
  keepFresh(signal: AbortSignal): Promise<void>;
}

export interface SessionsOptions {
  files: SessionFiles;
  clock: Clock;
  log: Log;
  random: () => number;
  /** Assumes the roles of both hops again. */
  renew: (config: Ways, hooks: Hooks) => Promise<Proof[]>;
  /** Called when AWS refuses to renew a session. */
  onRefused: (source: SourceProfile, problem: StsProblem) => void;
}

type Ways = Pick<ParsedConfig, 'profiles' | 'sources'>;
type Hooks = Pick<ProofOptions, 'durationSeconds' | 'onSession'>;

interface Held {
  readonly way: Way;
  readonly proof: Proof;
  readonly expiresAt: number;
  renewAt: number;
  /** Why the last renewal failed. */
  problem?: StsProblem;
  /** AWS has refused the profile since, or an earlier sidecar proved it: the next round proves it again. */
  doubted: boolean;
}

/** The sidecar polls and sets no timer per session, so that a jump of the clock, or a node that slept, does no harm. */
const lookEveryMs = 15_000;
const retryMs = 60_000;

export function createSessions(options: SessionsOptions): Sessions {
  const { files, clock, log } = options;
  const holder = createHolder(options);
  const { held, live, refuse } = holder;
  return {
    hooks: {
      durationSeconds: sessionSeconds,
      known: (profile, source) => {
        const old = live(profile.name);
        return old && !old.doubted && sameWay(old.way, { profile, source }) ? old.proof : undefined;
      },
      onSession: holder.take,
    },
    restore: ({ profiles, sources }) => {
      for (const profile of profiles) {
        const source = sources.find(({ name }) => name === profile.source);
        const expiresAt = files.expiresAt(profile.name);
        if (!source || expiresAt === undefined || expiresAt <= clock.now()) continue;
        // This process has not proved the profile, so the first round does.
        const proof = { profile: profile.name, seconds: 0, tries: 0, problem: undefined };
        held.set(profile.name, { way: { profile, source }, proof, expiresAt, renewAt: clock.now(), doubted: true });
      }
    },
    keepTo: ({ profiles, sources, refused }) => {
      for (const profile of profiles) {
        const old = held.get(profile.name);
        const source = sources.find(({ name }) => name === profile.source);
        if (!old || (source && sameWay(old.way, { profile, source }))) continue;
        held.delete(profile.name);
        refuse(profile.name, 'it leads to another role now, and its session is being fetched. Try again in a minute.');
      }
      const names = profiles.map(({ name }) => name);
      for (const name of [...held.keys()].filter((each) => !names.includes(each))) held.delete(name);
      const without = refused.filter(({ name }) => !names.includes(name));
      files.refuseOthers([...names, ...without.map(({ name }) => name)], (key) => sentence(key, notMapped));
      for (const role of without) refuse(role.name, refusalOf(role));
    },
    explain: ({ profiles }, proofs) => {
      for (const { name } of profiles) {
        const problem = proofs.find(({ profile }) => profile === name)?.problem;
        if (!problem) continue;
        const old = live(name);
        if (old) old.doubted = true;
        else refuse(name, `${problem.text}. ${problem.advice}`);
      }
    },
    endAll: ({ message, advice }) => {
      held.clear();
      files.refuseOthers([], (key) => sentence(key, `${message} ${advice}`));
    },
    expiresAt: (profile) => live(profile)?.expiresAt,
    lapsed: (profile) => {
      const old = held.get(profile);
      return old && !live(profile) ? (old.problem ?? stsProblem('source', 'session_expired')) : undefined;
    },
    keepFresh: async (signal) => {
      while (!signal.aborted) {
        await clock.sleep(lookEveryMs, signal);
        if (signal.aborted) return;
        await renewDue(holder, options).catch((error: unknown) => log.warn({ err: error }, 'sessions not renewed'));
      }
    },
  };
}

type Holder = ReturnType<typeof createHolder>;

function createHolder({ files, clock, random }: SessionsOptions) {
  const held = new Map<string, Held>();
  return {
    held,
    take: (way: Way, session: IssuedSession, proof: Proof): void => {
      const { expiresAt } = session;
      files.write(way.profile.name, session);
      // Half the life and up to a tenth more: many pods start at once, and must not renew in step.
      const renewAt = clock.now() + (expiresAt - clock.now()) * (0.5 + 0.1 * random());
      held.set(way.profile.name, { way, proof, expiresAt, renewAt, doubted: false });
    },
    live: (name: string): Held | undefined => {
      const found = held.get(name);
      return found && found.expiresAt > clock.now() ? found : undefined;
    },
    refuse: (name: string, why: string): void => files.refuse(name, sentence(name, why)),
  };
}

async function renewDue(
  { held, take, live, refuse }: Holder,
  { clock, log, random, renew, onRefused }: SessionsOptions,
): Promise<void> {
  const now = clock.now();
  const due = [...held.values()].filter(({ renewAt }) => renewAt <= now);
  if (due.length === 0) return;
  const ways = due.map(({ way }) => way);
  const config = { profiles: ways.map(({ profile }) => profile), sources: ways.map(({ source }) => source) };
  // A result is ignored if the session was ended or replaced meanwhile: the run was revoked, or the profile has another role.
  const current = (name: string) => due.find((old) => old === held.get(name));
  const onSession: typeof take = (way, session, proof) => {
    if (current(way.profile.name)) take(way, session, proof);
  };
  const proofs = await renew(config, { durationSeconds: sessionSeconds, onSession });
  for (const { profile, problem } of proofs) {
    const old = current(profile);
    if (!problem || !old) continue;
    const expires = new Date(old.expiresAt).toISOString();
    log.warn({ profile, problem: problem.text, expires }, 'session not renewed');
    old.renewAt = clock.now() + retryMs * (1 + random());
    old.problem = problem;
    if (!live(profile)) refuse(profile, `${problem.text}. ${problem.advice}`);
    if (!/_(refused|denied|not_allowed)$/.test(problem.code)) continue;
    old.doubted = true;
    onRefused(old.way.source, problem);
  }
}

const notMapped =
  'you are not mapped to its role any more. Ask your administrator, then type: curl localhost:6003/refresh';

/** The sentence for a role that the person is mapped to, and cannot have now. */
const refusalOf = ({ code, reason }: RefusedRole) =>
  `the IRSA service refuses its role, ${code}: ${reason.replace(/\.$/, '')}. When that is over, type: curl localhost:6003/refresh`;

/** One line; SDKs show it to people. */
const sentence = (profile: string, why: string) => oneLine(`irsa-svc: AWS profile ${profile}: ${why}`, 900);

function sameWay(a: Way, b: Way): boolean {
  const text = ({ profile, source }: Way) =>
    JSON.stringify([profile.roleArn, profile.sessionName, profile.region, source.roleArn, source.sessionName]);
  return text(a) === text(b);
}
