/** Owns the reading of the AWS config text: its profiles, what was refused and why, and what differs between two. Pure. */
import { readProposal } from '../lib/default-proposal.ts';
import { Failure, oneLine } from './failure.ts';
import { readUnmapped, type Unmapped } from './unmapped.ts';

/** A profile with a web identity: what STS can be asked about. */
export interface SourceProfile {
  readonly name: string;
  readonly roleArn: string;
  readonly sessionName: string | undefined;
  readonly region: string | undefined;
}

/** A profile that people use: a role, assumed by way of its source profile; its own source where there is no way to go. */
export interface TargetProfile extends SourceProfile {
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
  /** The profiles that the person's organizations propose as the default one. */
  readonly proposed: readonly string[];
  /** Where the person has no role at all, since no organization leads to one. */
  readonly unmapped: Unmapped | undefined;
}

export interface Changes {
  readonly added: readonly string[];
  readonly removed: readonly string[];
  /** Of the same name, with another role or another way to it. */
  readonly changed: readonly string[];
  readonly kept: readonly string[];
}

/** @throws Failure `unexpected_answer` where a line is nothing that a config file holds: a login page, say. */
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
    // Blanks at the end are taken off first: a pattern for them costs the square of their number.
    const [, key, value] = /^\s*([\w-]+)\s*=\s*(.*)$/.exec(line.trimEnd()) ?? [];
    if (section !== undefined) {
      current = new Map();
      sections.set(section, current);
    } else if (key && value !== undefined && current) current.set(key, value);
    else throw new Failure('unexpected_answer', { detail: 'it is no AWS config file' });
  }
  // A service with nothing to give says so in a comment; an empty answer is another program's.
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
    const [sessionName, region] = [values.get('role_session_name'), values.get('region')];
    if (source !== undefined) profiles.push({ name, roleArn, sessionName, region, source });
    else if (values.has('web_identity_token_file')) sources.push({ name, roleArn, sessionName, region });
  }
  const used = new Set(profiles.map(({ source }) => source));
  const direct = sources.filter(({ name }) => !used.has(name)).map((source) => ({ ...source, source: source.name }));
  return { profiles: [...profiles, ...direct], sources };
}

/** @param before what the file held; undefined when there was none, or none that could be read. */
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

/** Each profile's name, and the roles on the way. */
function ways(config: ParsedConfig | undefined): Map<string, string> {
  const sources = new Map(config?.sources.map(({ name, roleArn }) => [name, roleArn]));
  return new Map(
    config?.profiles.map(({ name, roleArn, source }) => [name, `${sources.get(source) ?? ''} ${roleArn}`]),
  );
}
