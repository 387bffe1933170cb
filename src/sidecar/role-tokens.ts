/** Owns the role tokens of the sidecar: fetches them for the profiles that name them, and renews them at half their life. */
import { dirname, join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { fs } from './builtins.ts';
import { type Disk, readText, replaceFile, writing } from './config-file.ts';
import { tokenProfile } from './config-form.ts';
import type { ParsedConfig } from './profiles.ts';
import { backOffMs } from './rounds.ts';
import { askRoleTokens, type ServiceCall, tokenForm } from './service-client.ts';
import { takeAll } from './session-files.ts';
import type { StsOptions } from './sts.ts';
import { type StsProblem, stsProblem } from './sts-problem.ts';

export interface RoleTokens {
  /**
   * Fetches the tokens that the config names, where one is missing or past half its life, and writes the files. Where the
   * service does not answer, valid tokens stay in use.
   * @param afresh fetches in any case. @throws Failure
   */
  bring(config: ParsedConfig, call: ServiceCall, afresh: boolean): Promise<void>;
  /** The token with which a run assumes the role of a source profile: its role token, else the pod's own. */
  webIdentity: StsOptions['webIdentity'];
  /** When the token of a profile ends, milliseconds since the epoch. */
  endOf(profile: string): number | undefined;
  /** Set where a profile's token has expired, so that tools cannot use its file. */
  lapsed(profile: string): StsProblem | undefined;
  /** Renews tokens that are past half their life, until `signal`. */
  keepFresh(call: () => Promise<ServiceCall>, signal: AbortSignal): Promise<void>;
  /** Removes all tokens of a revoked run, from memory and from the folder, whichever process wrote them. @throws Failure */
  drop(): void;
}

export interface RoleTokensOptions {
  /** The folder of the token files, which the config file names. */
  folder: string;
  pod: string;
  /** Whether the tokens are written there; otherwise only the sidecar has them, in memory. */
  toFiles: boolean;
  podToken: StsOptions['webIdentity'];
  disk: Disk;
  clock: Clock;
  log: Log;
  random: () => number;
}

interface Held {
  token: string;
  /** The ARN of the role that the token is for. */
  role: string;
  expiresAt: number;
  /** When it is to be renewed, milliseconds since the epoch. */
  dueAt: number;
}

const lookEveryMs = 10_000;
/** The pod's group may read it. */
const tokenMode = 0o640;

export function createRoleTokens(options: RoleTokensOptions): RoleTokens {
  const { folder, pod, toFiles, podToken, disk, clock, log, random } = options;
  const held = new Map<string, Held>();
  /** Profile -> the ARN of the role that its token is for. */
  let wanted: ReadonlyMap<string, string> = new Map();
  /** Counts changes of `wanted`: the answer to a request from before a change is dropped. */
  let changes = 0;
  const isDue = (profile: string) => (held.get(profile)?.dueAt ?? 0) <= clock.now();
  const works = (profile: string) => (held.get(profile)?.expiresAt ?? 0) > clock.now();

  async function fetch(call: ServiceCall): Promise<void> {
    const asked = changes;
    const { tokens, refused } = await askRoleTokens(call, pod);
    if (asked !== changes) return;
    const now = clock.now();
    for (const { profile, token, expiresAt } of tokens) {
      const role = wanted.get(profile);
      if (role === undefined) continue;
      // About half of its life; the jitter keeps many pods from renewing at the same moment.
      const dueAt = now + (expiresAt - now) * (0.45 + 0.1 * random());
      held.set(profile, { token, role, expiresAt, dueAt });
      if (toFiles) writing(folder, 'tokens_not_writable', () => writeToken(join(folder, profile), token, disk));
    }
    for (const { profile, code } of refused) log.warn({ profile, code }, 'the service gives no token for this profile');
  }

  /** Drops the tokens of profiles that are no longer wanted, and of those that now lead to another role. */
  function keepToWanted(): void {
    changes += 1;
    for (const [profile, { role }] of held) if (wanted.get(profile) !== role) held.delete(profile);
    if (toFiles) removeOthers(folder, wanted.keys());
  }

  return {
    bring: async ({ sources }, call, afresh) => {
      const ofTokens = sources.map(({ tokenFile, roleArn }) => [tokenProfile(tokenFile, folder), roleArn] as const);
      wanted = new Map(ofTokens.flatMap(([profile, role]) => (profile === undefined ? [] : [[profile, role]])));
      keepToWanted();
      if (![...wanted.keys()].some((profile) => afresh || isDue(profile))) return;
      await fetch(call).catch((error: unknown) => {
        if (![...wanted.keys()].every(works)) throw error;
        log.warn({ err: error }, 'the role tokens were not renewed; the current ones stay in use');
      });
    },
    webIdentity: (source) => {
      const profile = tokenProfile(source.tokenFile, folder);
      if (profile === undefined) return podToken(source);
      return { token: works(profile) ? held.get(profile)?.token : undefined, place: source.tokenFile };
    },
    endOf: (profile) => held.get(profile)?.expiresAt,
    lapsed: (profile) => (held.has(profile) && !works(profile) ? stsProblem('source', 'token_expired') : undefined),
    keepFresh: (call, signal) =>
      renewing(
        options,
        () => [...held.keys()].some(isDue),
        async () => fetch(await call()),
        signal,
      ),
    drop: () => {
      wanted = new Map();
      keepToWanted();
    },
  };
}

/** Removes the token files of other profiles. Files of `profiles` that an earlier sidecar wrote stay until new ones replace them. */
function removeOthers(folder: string, profiles: Iterable<string>): void {
  const kept = new Set([...profiles].map((profile) => join(folder, profile)));
  writing(folder, 'tokens_not_writable', () => {
    const others = tokenFiles(folder).filter((path) => !kept.has(path));
    takeAll(others.map((path) => () => fs.rmSync(path, { force: true })));
  });
}

async function renewing(
  { clock, log, random }: RoleTokensOptions,
  isDue: () => boolean,
  renew: () => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  while (!signal.aborted) {
    await clock.sleep(failures === 0 ? lookEveryMs : backOffMs(failures, random), signal);
    if (signal.aborted || !isDue()) continue;
    try {
      await renew();
      failures = 0;
    } catch (error) {
      failures += 1;
      log.warn({ err: error, failures }, 'the role tokens were not renewed; trying again');
    }
  }
}

function writeToken(path: string, token: string, disk: Disk): void {
  fs.mkdirSync(dirname(path), { recursive: true });
  replaceFile(path, token, tokenMode, disk);
}

/** The folder's files that hold a token, and unfinished files of a process that ended while it wrote one; no other program's files. */
function tokenFiles(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  const files = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files
    .map(({ name, parentPath }) => ({ name, path: join(parentPath, name) }))
    .filter(({ name, path }) => /^\..+\.irsa-new$/.test(name) || tokenForm.test(readText(path).text ?? ''))
    .map(({ path }) => path);
}
