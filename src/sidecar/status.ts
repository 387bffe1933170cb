/** Owns what the side-car says of itself: the answers of `/status`, `/readyz` and `/refresh`, short enough for a terminal. */
import type { Failure } from './failure.ts';
import type { RefusedRole } from './profiles.ts';
import type { Written } from './round.ts';
import type { Outcome, Rounds } from './rounds.ts';

/** `starting`: no round has ended. `ready`: the last did well. `retrying`: none did yet. `stale`: one did, not the last. */
export type State = 'starting' | 'ready' | 'retrying' | 'stale';

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
}

export interface StatusView {
  state: State;
  run_id: string | null;
  config_file: string;
  /** When the file was last found right or written. */
  fetched_at: string | null;
  refreshing: boolean;
  last_round: { at: string; cause: string; seconds: number; result: 'ok' | 'failed' } | null;
  profiles: ProfileView[];
  refused: readonly RefusedRole[];
  next_try: string | null;
  last_error: ProblemView | null;
}

export interface RefreshView {
  result: 'ok' | 'failed';
  config?: 'written' | 'unchanged';
  added?: readonly string[];
  removed?: readonly string[];
  changed?: readonly string[];
  kept?: readonly string[];
  refused?: readonly RefusedRole[];
  proof_seconds?: number | null;
  seconds: number;
  error?: ProblemView;
  next_try: string | null;
}

export interface Told {
  configFile: string;
  /** Whether proofs are asked for. */
  prove: boolean;
  /** A round has ended well since the start. */
  ready: boolean;
  /** The newest config on disk, and when it was had. */
  written: { what: Written; at: number } | undefined;
  /** The newest failure, whatever came after it. */
  lastError: { failure: Failure; at: number } | undefined;
  rounds: Pick<Rounds<Written>, 'running' | 'last' | 'nextAt'>;
}

const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
const rounded = (seconds: number) => Math.round(seconds * 1000) / 1000;

export function stateOf({ ready, rounds: { last } }: Told): State {
  if (!last) return 'starting';
  if (!last.failure) return 'ready';
  return ready ? 'stale' : 'retrying';
}

export function problemView(failure: Failure, at?: number): ProblemView {
  const when = at === undefined ? {} : { at: new Date(at).toISOString() };
  return { code: failure.code, message: failure.message, what_to_do: failure.advice, ...when };
}

export function statusView(told: Told): StatusView {
  const { written, lastError, rounds } = told;
  const { last } = rounds;
  return {
    state: stateOf(told),
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
    profiles: written ? profileViews(written.what, told.prove) : [],
    refused: written?.what.config.refused ?? [],
    next_try: time(rounds.nextAt),
    last_error: lastError ? problemView(lastError.failure, lastError.at) : null,
  };
}

function profileViews({ config, proofs }: Written, prove: boolean): ProfileView[] {
  return config.profiles.map(({ name, roleArn, source }) => {
    const proof = proofs.find(({ profile }) => profile === source);
    const proved = prove ? proof !== undefined && proof.problem === undefined : 'off';
    return {
      name,
      role: roleArn,
      proved,
      ...(proof ? { proof_seconds: rounded(proof.seconds) } : {}),
      ...(proof?.problem === undefined ? {} : { problem: proof.problem }),
    };
  });
}

/** @param written what the round put on disk, also where it failed after that. */
export function refreshView(
  outcome: Outcome<Written>,
  written: Written | undefined,
  nextAt: number | undefined,
): RefreshView {
  const { failure, seconds } = outcome;
  const { added, removed, changed = [], kept } = written?.changes ?? {};
  const slowest = Math.max(...(written?.proofs.map((proof) => proof.seconds) ?? []));
  return {
    result: failure ? 'failed' : 'ok',
    ...(failure ? { error: problemView(failure) } : {}),
    ...(written && added && removed && kept
      ? {
          config: written.written ? 'written' : 'unchanged',
          added,
          removed,
          ...(changed.length > 0 ? { changed } : {}),
          kept,
          refused: written.config.refused,
          proof_seconds: Number.isFinite(slowest) ? rounded(slowest) : null,
        }
      : {}),
    seconds: rounded(seconds),
    next_try: time(nextAt),
  };
}

/** JSON with one line a field and one line an entry of a list of objects. */
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
