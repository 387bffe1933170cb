/** Owns reading of the AWS config file's text: its profiles, the refused roles, and the changes between two texts. Pure. */
import { readProposal } from '../lib/default-proposal.ts';
import { Failure, oneLine } from './failure.ts';
import { readUnmapped, type Unmapped } from './unmapped.ts';

export interface Profile {
  readonly name: string;
  readonly roleArn: string;
  readonly sessionName: string | undefined;
  readonly region: string | undefined;
}

/** A profile that assumes its role with the web identity token in a file. */
export interface SourceProfile extends Profile {
  readonly tokenFile: string;
}

/** A profile that people use: a role, assumed through its source profile. A profile that needs no other is its own source. */
export interface TargetProfile extends Profile {
  readonly source: string;
}

export interface RefusedRole {
  readonly name: string;
  readonly code: string;
  readonly reason: string;
}

export interface ParsedConfig {
  readonly profiles: readonly TargetProfile[];
  readonly sources: readonly SourceProfile[];
  readonly refused: readonly RefusedRole[];
  /** The profiles that the person's organizations propose as the default profile. */
  readonly proposed: readonly string[];
  /** Set where the person has no role at all, since no organization is mapped to one. */
  readonly unmapped: Unmapped | undefined;
}

export interface Changes {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Profiles that kept their name, and now have another role or another proxy role. */
  readonly changed: readonly string[];
  readonly kept: readonly string[];
}

/** @throws Failure `unexpected_answer` where a line does not belong in a config file, such as a line of a login page. */
export function parseConfig(text: string): ParsedConfig {
  const sections = new Map<string, Map<string, string>>();
  const refused: RefusedRole[] = [];
  const proposed: string[] = [];
  let current: Map<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (line.trim() === '') continue;
    if (/^\s*[#;]/.test(line)) {
      const [, name, code, reason] = /^# (\S+): refused, ([\w-]+): (.*)$/.exec(line) ?? [];
      if (name && code) refused.push({ name, code, reason: oneLine(reason ?? '') });
      const proposal = readProposal(line);
      if (proposal) proposed.push(proposal);
      continue;
    }
    const section = /^\[(?:profile )?([^\]]+)\]\s*$/.exec(line)?.[1]?.trim();
    // trimEnd() comes first: to match trailing blanks, a pattern needs time quadratic in their number.
    const [, key, value] = /^\s*([\w-]+)\s*=\s*(.*)$/.exec(line.trimEnd()) ?? [];
    if (section !== undefined) {
      current = new Map();
      sections.set(section, current);
    } else if (key && value !== undefined && current) current.set(key, value);
    else throw new Failure('unexpected_answer', { detail: 'it is no AWS config file' });
  }
  // The service says in a comment that there are no roles; an empty answer comes from another program.
  if (text.trim() === '') throw new Failure('unexpected_answer', { detail: 'it is empty' });
  return { ...sort(sections), refused, proposed, unmapped: readUnmapped(text) };
}

function sort(sections: ReadonlyMap<string, ReadonlyMap<string, string>>): Pick<ParsedConfig, 'profiles' | 'sources'> {
  const profiles: TargetProfile[] = [];
  const sources: SourceProfile[] = [];
  for (const [name, values] of sections) {
    const roleArn = values.get('role_arn');
    const source = values.get('source_profile');
    if (roleArn === undefined) continue;
    const tokenFile = values.get('web_identity_token_file');
    const profile = { name, roleArn, sessionName: values.get('role_session_name'), region: values.get('region') };
    if (source !== undefined) profiles.push({ ...profile, source });
    else if (tokenFile !== undefined) sources.push({ ...profile, tokenFile });
  }
  const used = new Set(profiles.map(({ source }) => source));
  const direct = sources.filter(({ name }) => !used.has(name)).map((source) => ({ ...source, source: source.name }));
  return { profiles: [...profiles, ...direct], sources };
}

/** @param before the earlier config; undefined when there was none, or none that could be read. */
export function compareConfigs(before: ParsedConfig | undefined, after: ParsedConfig): Changes {
  const [old, fresh] = [ways(before), ways(after)];
  const names = [...fresh.keys()];
  return {
    added: names.filter((name) => !old.has(name)),
    removed: [...old.keys()].filter((name) => !fresh.has(name)),
    changed: names.filter((name) => old.has(name) && old.get(name) !== fresh.get(name)),
    kept: names.filter((name) => old.get(name) === fresh.get(name)),
  };
}

/** Each profile's name -> its proxy role and its role. */
function ways(config: ParsedConfig | undefined): Map<string, string> {
  const sources = new Map(config?.sources.map(({ name, roleArn }) => [name, roleArn]));
  return new Map(
    config?.profiles.map(({ name, roleArn, source }) => [name, `${sources.get(source) ?? ''} ${roleArn}`]),
  );
}
