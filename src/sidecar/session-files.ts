/**
 * Owns the folder of the sessions: a session file for each profile that has a session, and for each other profile a file that says
 * why it has none. Only the pod's group can read session files.
 */
import { join } from 'node:path';
import { fs } from './builtins.ts';
import { type Disk, readText, replaceFile, writing } from './config-file.ts';
import { scriptName, sessionJson, sessionKey, sessionScript } from './process-form.ts';
import type { IssuedSession } from './sts.ts';

export interface SessionFiles {
  /** @throws Failure `sessions_not_writable`, as all of these do. */
  writeScript(port: number): void;
  write(profile: string, session: IssuedSession): void;
  /** When the session in the profile's file expires, milliseconds since the epoch; undefined where there is none. Throws nothing. */
  expiresAt(profile: string): number | undefined;
  /** Removes the session, if there is one, and leaves a sentence for people in its place. */
  refuse(profile: string, why: string): void;
  /** As `refuse`, for every profile that has a file and is not listed. All sessions go first, then the sentences are written. */
  refuseOthers(profiles: readonly string[], why: (key: string) => string): void;
}

/** Runs every step, even when an earlier one fails. @throws the first error, after the last step. */
export function takeAll(steps: readonly (() => void)[]): void {
  const errors = steps.flatMap((step) => {
    try {
      step();
      return [];
    } catch (error) {
      return [error];
    }
  });
  if (errors.length > 0) throw errors[0];
}

/** The kubelet gives the volume to the pod's group, with the setgid bit, so new files belong to that group. */
const [sessionMode, publicMode] = [0o640, 0o644];

export function sessionFiles(folder: string, disk: Disk): SessionFiles {
  const at = (key: string, ending: string) => join(folder, `${key}.${ending}`);

  const written = (work: () => void) => writing(folder, 'sessions_not_writable', work);
  /** Removes the session, and the unfinished file of a process that ended while it wrote one. */
  function remove(key: string): void {
    fs.rmSync(at(key, 'json'), { force: true });
    fs.rmSync(at(`.${key}`, 'json.irsa-new'), { force: true });
  }
  function explain(key: string, why: string): void {
    if (readText(at(key, 'why')).text !== `${why}\n`) replaceFile(at(key, 'why'), `${why}\n`, publicMode, disk);
  }
  function refuseKey(key: string, why: string): void {
    // The session goes first, so that it is gone even if the sentence cannot be written.
    remove(key);
    explain(key, why);
  }
  return {
    writeScript: (port) => written(() => replaceFile(join(folder, scriptName), sessionScript(port), publicMode, disk)),
    write: (profile, session) =>
      written(() => {
        const key = sessionKey(profile);
        replaceFile(at(key, 'json'), sessionJson(session), sessionMode, disk);
        fs.rmSync(at(key, 'why'), { force: true });
      }),
    expiresAt: (profile) => {
      const [, end = ''] = /"Expiration":"([^"]*)"/.exec(readText(at(sessionKey(profile), 'json')).text ?? '') ?? [];
      return Number.isNaN(Date.parse(end)) ? undefined : Date.parse(end);
    },
    refuse: (profile, why) => written(() => refuseKey(sessionKey(profile), why)),
    refuseOthers: (profiles, why) =>
      written(() => {
        const kept = new Set(profiles.map(sessionKey));
        const names = fs.readdirSync(folder);
        const found = names.map(
          (name) => (/^\.(.+)\.json\.irsa-new$/.exec(name) ?? /^(.+)\.(json|why)$/.exec(name))?.[1],
        );
        const keys = [...new Set(found)].filter((key) => key !== undefined && !kept.has(key)) as string[];
        takeAll([...keys.map((key) => () => remove(key)), ...keys.map((key) => () => explain(key, why(key)))]);
      }),
  };
}
