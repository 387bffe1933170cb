/**
 * Owns the default profile: serves its session as container credentials to code that names no profile.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 */
import { join } from 'node:path';
import type { Clock } from '../lib/clock.ts';
import { crypto } from './builtins.ts';
import { type Disk, readText, replaceFile, writing } from './config-file.ts';
import { Failure } from './failure.ts';
import type { Reply } from './http.ts';
import { sessionKey } from './process-form.ts';
import type { RefusedRole } from './profiles.ts';

export interface DefaultProfile {
  /** `/default`, and `/default?profile=…`, which chooses one of `config`'s; an empty name chooses none. */
  choose(query: URLSearchParams, config: Offered): Reply;
  /** `/default/credentials`, for SDKs. @param authorization the request's header, which must equal the token file's text. */
  credentials(authorization: string | undefined, config: Offered): Reply;
  /** The current default profile, who chose it, and whether it has a session. */
  view(config: Offered): DefaultView;
  /** Writes the token that SDKs send, unless the file has it. @throws Failure `sessions_not_writable` */
  writeToken(): void;
}

/** The profiles that a person can choose from. */
export interface Offered {
  readonly profiles: readonly string[];
  /** Roles of the person that the service refuses now, with the reason. */
  readonly refused: readonly RefusedRole[];
  /** The profiles that the mappings of the person's organizations propose. */
  readonly proposed: readonly string[];
}

export interface DefaultView {
  profile: string | null;
  /** Null where there is no default profile. */
  chosen_by: 'person' | 'mapping' | null;
  proposed: readonly string[];
  /** Why code without a profile gets no session now. */
  problem?: string;
  what_to_do?: string;
}

/** Files beside the sessions. No profile's file can have these names, since it has an ending. */
const [choiceName, tokenName] = ['default-profile', 'default-token'];

/** Makes a new token. The person's choice survives a restart of the sidecar, as the sessions do. */
export function openDefaultProfile(folder: string, disk: Disk, clock: Clock): DefaultProfile {
  const token = crypto.randomBytes(32).toString('hex');
  const [choiceFile, tokenFile] = [join(folder, choiceName), join(folder, tokenName)];
  const chosen = ({ proposed }: Offered): DefaultView => {
    const choice = readText(choiceFile).text?.trim();
    // An empty choice means that the person wants no default profile.
    if (choice !== undefined) return { profile: choice || null, chosen_by: 'person', proposed };
    const [only, ...others] = proposed;
    if (only === undefined) return { profile: null, chosen_by: null, proposed };
    if (others.length === 0) return { profile: only, chosen_by: 'mapping', proposed };
    const problem = `Your organizations propose different default profiles, so none is taken: ${proposed.join(', ')}.`;
    return { profile: null, chosen_by: null, proposed, problem, what_to_do: `Choose one: ${command}` };
  };
  const view = (offered: Offered): DefaultView => {
    const found = chosen(offered);
    if (found.profile === null) return found;
    const session = sessionOf(folder, found.profile, clock.now());
    if (session.keys !== undefined) return found;
    return { ...found, ...whyNone(found.profile, offered, session.why) };
  };

  return {
    view,
    writeToken: () => {
      if (readText(tokenFile).text !== token)
        writing(folder, 'sessions_not_writable', () => replaceFile(tokenFile, token, 0o640, disk));
    },
    choose: (query, offered) => {
      const { profiles } = offered;
      const wanted = query.get('profile');
      if (wanted !== null && wanted !== '' && !profiles.includes(wanted)) {
        return { status: 404, body: { error: 'There is no such profile.', profiles, ...shown(view(offered)) } };
      }
      if (wanted !== null) {
        try {
          writing(folder, 'sessions_not_writable', () => replaceFile(choiceFile, `${wanted}\n`, 0o644, disk));
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
          return { status: 503, body: { error: error.message, what_to_do: error.advice } };
        }
      }
      return { status: 200, body: { ...shown(view(offered)), profiles } };
    },
    credentials: (authorization, offered) => {
      if (!sameText(authorization ?? '', token))
        return failed(401, 'Unauthorized', 'The token is not that of the file.');
      const { profile, problem } = chosen(offered);
      if (profile === null) return failed(404, 'NoDefaultProfile', `${problem ? `${problem} ` : ''}Type: ${command}`);
      const session = sessionOf(folder, profile, clock.now());
      if (session.keys === undefined) return failed(404, 'NoSession', whyNone(profile, offered, session.why).problem);
      const { AccessKeyId, SecretAccessKey, SessionToken: Token, Expiration } = session.keys;
      return { status: 200, body: { AccessKeyId, SecretAccessKey, Token, Expiration } };
    },
  };
}

type Keys = Record<'AccessKeyId' | 'SecretAccessKey' | 'SessionToken' | 'Expiration', string>;

/** The live session, or the sentence that says why there is none. */
function sessionOf(folder: string, profile: string, now: number): { keys: Keys } | { keys?: undefined; why: string } {
  const at = join(folder, sessionKey(profile));
  const session = readText(`${at}.json`).text;
  if (session === undefined) return { why: readText(`${at}.why`).text?.trim() ?? 'Its session is not there yet.' };
  const keys = JSON.parse(session) as Keys;
  return Date.parse(keys.Expiration) > now
    ? { keys }
    : { why: `Its session ran out at ${keys.Expiration}, and was not renewed.` };
}

/** Why the default profile has no session, since a choice outlasts its role. */
function whyNone(name: string, { profiles, refused }: Offered, why: string): { problem: string; what_to_do: string } {
  const role = refused.find((one) => one.name === name);
  if (role) return { problem: `The IRSA service refuses its role, ${role.code}: ${role.reason}`, what_to_do: another };
  // Before the first round, the sidecar does not know the profiles.
  return {
    problem: why,
    what_to_do: profiles.length === 0 || profiles.includes(name) ? 'Type: curl localhost:6003/doctor' : another,
  };
}

const another = 'Ask your administrator, or choose another: curl "localhost:6003/default?profile=<profile>"';
const command = 'curl "localhost:6003/default?profile=<profile>"';

const shown = ({ profile, ...rest }: DefaultView) => ({ default_profile: profile, ...rest });

/** An error in the form that SDKs show. */
const failed = (status: number, code: string, message: string): Reply => ({ status, body: { code, message } });

/** Compares in constant time. */
function sameText(one: string, other: string): boolean {
  const digest = (text: string) => crypto.hash('sha256', text, 'buffer');
  return crypto.timingSafeEqual(digest(one), digest(other));
}
