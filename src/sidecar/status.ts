/** Owns the sidecar's reports: the answers of `/status`, `/readyz` and `/refresh`, short enough for a terminal. */
import type { DefaultView, Offered } from './default-profile.ts';
import type { Failure } from './failure.ts';
import type { Changes, RefusedRole } from './profiles.ts';
import type { Written } from './round.ts';
import type { Outcome, Rounds } from './rounds.ts';
import type { Hop, StsProblem } from './sts-problem.ts';
import { type NoticeView, noticeView } from './unmapped.ts';

/**
 * `starting`: no round has ended. `ready`: the last round succeeded. `unmapped`: it succeeded, and the person has no roles.
 * `retrying`: no round has succeeded yet. `stale`: an earlier round succeeded, but not the last. `revoked`: the run was revoked.
 */
export type State = 'starting' | 'ready' | 'unmapped' | 'retrying' | 'stale' | 'revoked';

export interface ProblemView {
  code: string;
  message: string;
  what_to_do: string;
  at?: string;
}

export interface ProfileView {
  name: string;
  role: string;
  proved: boolean | 'off';
  proof_seconds?: number;
  problem?: string;
  /** A stable code. */
  problem_code?: string;
  /** The hop that failed: `source` is the proxy role, `target` the role itself. */
  hop?: Hop;
  what_to_do?: string;
  /** When the session that the sidecar holds for the profile expires. */
  session_expires?: string;
  /** When the role token that the sidecar keeps for the profile expires. */
  token_expires?: string;
}

export interface StatusView {
  state: State;
  run_id: string | null;
  config_file: string;
  /** When the file was last written or found up to date. */
  fetched_at: string | null;
  refreshing: boolean;
  last_round: { at: string; cause: string; seconds: number; result: 'ok' | 'failed' } | null;
  profiles: ProfileView[];
  refused: readonly RefusedRole[];
  /** Information that is no error: no organization of the person is mapped. */
  notice: NoticeView | null;
  /** Null where default profiles are switched off. */
  default_profile: DefaultView | null;
  next_try: string | null;
  last_error: ProblemView | null;
}

export interface RefreshView extends Partial<Changes> {
  result: 'ok' | 'failed';
  config?: 'written' | 'unchanged';
  refused?: readonly RefusedRole[];
  notice?: NoticeView;
  proof_seconds?: number | null;
  seconds: number;
  error?: ProblemView;
  next_try: string | null;
}

export interface Told {
  configFile: string;
  /** Whether proofs are switched on. */
  prove: boolean;
  /** Whether a round has succeeded since the start. */
  ready: boolean;
  /** The newest config on disk, and when it was written or found up to date. */
  written: { what: Written; at: number } | undefined;
  /** The newest failure, also after a success. */
  lastError: { failure: Failure; at: number } | undefined;
  /** When a profile's session expires, where the sidecar holds one. */
  expiresAt?: ((profile: string) => number | undefined) | undefined;
  /** Why a profile's session has expired, or its role token where tools call STS themselves. */
  lapsed?: ((profile: string) => StsProblem | undefined) | undefined;
  /** When the role token of a profile expires, where it has one. */
  tokenEndOf?: ((profile: string) => number | undefined) | undefined;
  /** The default profile, where it is switched on. */
  defaultView?: ((offered: Offered) => DefaultView) | undefined;
  rounds: Pick<Rounds<Written>, 'running' | 'last' | 'nextAt'>;
}

const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
const rounded = (seconds: number) => Math.round(seconds * 1000) / 1000;

export function stateOf({ ready, rounds: { last } }: Told): State {
  if (!last) return 'starting';
  if (last.failure?.code === 'run_revoked') return 'revoked';
  if (!last.failure) return last.result?.config.unmapped ? 'unmapped' : 'ready';
  return ready ? 'stale' : 'retrying';
}

export function problemView(failure: Failure, at?: number): ProblemView {
  const when = at === undefined ? {} : { at: new Date(at).toISOString() };
  return { code: failure.code, message: failure.message, what_to_do: failure.advice, ...when };
}

export function statusView(told: Told): StatusView {
  const { written, lastError, rounds } = told;
  const { last } = rounds;
  const state = stateOf(told);
  const revoked = state === 'revoked' ? last?.failure : undefined;
  return {
    state,
    run_id: written?.what.run ?? null,
    config_file: told.configFile,
    fetched_at: time(written?.at),
    refreshing: rounds.running,
    last_round: last
      ? {
          at: new Date(last.at).toISOString(),
          cause: last.cause,
          seconds: rounded(last.seconds),
          result: last.failure ? 'failed' : 'ok',
        }
      : null,
    profiles: written ? profileViews(written.what, told, revoked) : [],
    refused: written?.what.config.refused ?? [],
    notice: noticeOf(told),
    default_profile: told.defaultView?.(offeredOf(told)) ?? null,
    next_try: time(rounds.nextAt),
    last_error: lastError ? problemView(lastError.failure, lastError.at) : null,
  };
}

/** The profiles that may become the person's default profile. */
export function offeredOf({ written }: Pick<Told, 'written'>): Offered {
  const { profiles = [], proposed = [], refused = [] } = written?.what.config ?? {};
  return { profiles: profiles.map(({ name }) => name), proposed, refused };
}

export function noticeOf({ written }: Told): NoticeView | null {
  const unmapped = written?.what.config.unmapped;
  return unmapped ? noticeView(unmapped) : null;
}

/** @param revoked why no profile works, whatever was proved before. */
function profileViews(
  { config, proofs }: Written,
  { prove, expiresAt, lapsed, tokenEndOf }: Told,
  revoked: Failure | undefined,
): ProfileView[] {
  return config.profiles.map(({ name, roleArn }) => {
    if (revoked) {
      const { message: problem, code: problem_code, advice: what_to_do } = revoked;
      return { name, role: roleArn, proved: false, problem, problem_code, what_to_do };
    }
    const proof = proofs.find(({ profile }) => profile === name);
    const [expires, tokenEnd] = [expiresAt?.(name), tokenEndOf?.(name)];
    // An earlier proof no longer counts once the session has expired.
    const problem = proof?.problem ?? lapsed?.(name);
    const proved = prove ? proof !== undefined && problem === undefined : 'off';
    return {
      name,
      role: roleArn,
      proved,
      ...(proof ? { proof_seconds: rounded(proof.seconds) } : {}),
      ...problemOf(problem),
      ...(expires === undefined ? {} : { session_expires: new Date(expires).toISOString() }),
      ...(tokenEnd === undefined ? {} : { token_expires: new Date(tokenEnd).toISOString() }),
    };
  });
}

function problemOf(problem: StsProblem | undefined): Partial<ProfileView> {
  if (!problem) return {};
  return { problem: problem.text, problem_code: problem.code, hop: problem.hop, what_to_do: problem.advice };
}

/** @param written the config that the round wrote to disk, even if the round failed later. */
export function refreshView(
  outcome: Outcome<Written>,
  written: Written | undefined,
  nextAt: number | undefined,
): RefreshView {
  const { failure, seconds } = outcome;
  return {
    result: failure ? 'failed' : 'ok',
    ...(failure ? { error: problemView(failure) } : {}),
    ...(written ? writtenView(written) : {}),
    seconds: rounded(seconds),
    next_try: time(nextAt),
  };
}

function writtenView({ written, config, changes, proofs }: Written): Partial<RefreshView> {
  const { added, removed, changed, kept } = changes;
  const slowest = Math.max(...proofs.map((proof) => proof.seconds));
  return {
    config: written ? 'written' : 'unchanged',
    added,
    removed,
    ...(changed.length > 0 ? { changed } : {}),
    kept,
    refused: config.refused,
    ...(config.unmapped ? { notice: noticeView(config.unmapped) } : {}),
    proof_seconds: Number.isFinite(slowest) ? rounded(slowest) : null,
  };
}

/** JSON with one line for each field, and one for each entry of a list of objects. */
export function terminalJson(value: object): string {
  const fields = Object.entries(value).map(([name, field]) => {
    const long = Array.isArray(field) && field.some((entry) => typeof entry === 'object');
    const text = long
      ? `[\n    ${field.map(spaced).join(',\n    ')}\n  ]`
      : isProblem(field)
        ? deep(field)
        : spaced(field);
    return `  ${JSON.stringify(name)}: ${text}`;
  });
  return `{\n${fields.join(',\n')}\n}\n`;
}

const spaced = (value: unknown) => JSON.stringify(value, null, 1).replace(/\n\s*/g, ' ');
const isProblem = (value: unknown): value is object =>
  typeof value === 'object' && value !== null && 'what_to_do' in value;
const deep = (value: object) => JSON.stringify(value, null, 2).replace(/\n/g, '\n  ');
