/** Owns the role tokens of the sidecar: fetched for the profiles that name them, kept in memory, renewed at half their life. */
import { dirname, join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { fs } from './builtins.ts';
import { type Disk, readText, replaceFile, writing } from './config-file.ts';
import { tokenProfileOf } from './config-form.ts';
import { parseConfig, type SourceProfile } from './profiles.ts';
import { backOffMs } from './rounds.ts';
import { askRoleTokens, type ServiceCall, tokenForm } from './service-client.ts';
import { takeAll } from './session-files.ts';
import type { StsOptions } from './sts.ts';
import { type StsProblem, stsProblem } from './sts-problem.ts';

export interface RoleTokens {
  /**
   * Brings what the config names: fetches it where something is missing or past half its life, and writes the files. What is
   * held goes on where the service does not answer.
   * @param text the config file's, as the service gave it. @param afresh fetches in any case. @throws Failure
   */
  bring(text: string, call: ServiceCall, afresh: boolean): Promise<void>;
  /** Takes up what the config of a sidecar before this one names, so that no role of it is asked for with the pod's token. */
  restore(text: string): void;
  /** The token that lets a run into the role of a source profile; the pod's own where none is for it. */
  webIdentity: StsOptions['webIdentity'];
  /** When the token of a profile ends, milliseconds since the epoch. */
  endOf(profile: string): number | undefined;
  /** Why tools cannot use the file of a profile, which had a token. */
  lapsed(profile: string): StsProblem | undefined;
  /** Renews what is past half its life, until `signal`. */
  keepFresh(call: () => Promise<ServiceCall>, signal: AbortSignal): Promise<void>;
  /** The run is shut out: nothing is held any more, and no token is left in the folder, whichever process wrote it. @throws Failure */
  drop(): void;
}

export interface RoleTokensOptions {
  /** Where the config file names the token files. */
  folder: string;
  pod: string;
  /** Whether they are written there; else the sidecar alone has them. */
  toFiles: boolean;
  podToken: StsOptions['webIdentity'];
  disk: Disk;
  clock: Clock;
  log: Log;
  random: () => number;
}

interface Held {
  token: string;
  /** The role that it is for. */
  role: string | undefined;
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
  /** The name of a profile's section -> the profile whose token file it names. */
  let named: ReadonlyMap<string, string> = new Map();
  /** The profile -> the role that its token is for. */
  let wanted: ReadonlyMap<string, string | undefined> = new Map();
  /** What is wanted changed: answers to what was asked before are of no use. */
  let changes = 0;
  const isDue = (profile: string) => (held.get(profile)?.dueAt ?? 0) <= clock.now();
  const works = (profile: string) => (held.get(profile)?.expiresAt ?? 0) > clock.now();

  async function fetch(call: ServiceCall): Promise<void> {
    const asked = changes;
    const { tokens, refused } = await askRoleTokens(call, pod);
    if (asked !== changes) return;
    const now = clock.now();
    for (const { profile, token, expiresAt } of tokens) {
      if (!wanted.has(profile)) continue;
      // Half of its life, and not all pods at that moment.
      const dueAt = now + (expiresAt - now) * (0.45 + 0.1 * random());
      held.set(profile, { token, role: wanted.get(profile), expiresAt, dueAt });
      if (toFiles) writing(folder, 'tokens_not_writable', () => writeToken(join(folder, profile), token, disk));
    }
    for (const { profile, code } of refused) log.warn({ profile, code }, 'the service gives no token for this profile');
  }

  function want(text: string): void {
    named = tokenProfileOf(text, folder);
    const roles = new Map(parseConfig(text).sources.map(({ name, roleArn }) => [name, roleArn]));
    wanted = new Map([...named].map(([section, profile]) => [profile, roles.get(section)]));
  }

  /** Forgets the tokens of profiles that are not wanted, and of those that lead to another role now. */
  function keepToWanted(): void {
    changes += 1;
    for (const [profile, { role }] of held) if (wanted.get(profile) !== role) held.delete(profile);
    if (toFiles) removeOthers(folder, wanted.keys());
  }

  return {
    bring: async (text, call, afresh) => {
      want(text);
      keepToWanted();
      if (![...wanted.keys()].some((profile) => afresh || isDue(profile))) return;
      await fetch(call).catch((error: unknown) => {
        if (![...wanted.keys()].every(works)) throw error;
        log.warn({ err: error }, 'the role tokens were not renewed; those that are held go on');
      });
    },
    restore: want,
    webIdentity: (source: SourceProfile) => {
      const profile = named.get(source.name);
      if (profile === undefined) return podToken(source);
      return { token: works(profile) ? held.get(profile)?.token : undefined, place: join(folder, profile) };
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

/** A sidecar before this one may have left files that are wanted still; they serve until new ones are there. */
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

/** The folder's files that hold a token, and what a process left that was ended while it wrote one; no other program's. */
function tokenFiles(folder: string): string[] {
  if (!fs.existsSync(folder)) return [];
  const files = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return files
    .map(({ name, parentPath }) => ({ name, path: join(parentPath, name) }))
    .filter(({ name, path }) => /^\..+\.irsa-new$/.test(name) || tokenForm.test(readText(path).text ?? ''))
    .map(({ path }) => path);
}
