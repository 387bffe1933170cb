/**
 * Owns the check of the AWS config file that the service sends: only the keys and forms that src/grants/aws-config.ts writes are
 * allowed. AWS's tools run the program that a config file names (`credential_process`), and a compromised service must not choose it. Pure.
 */
import { parseRoleArn } from '../lib/arn.ts';
import { mostProposals, readProposal } from '../lib/default-proposal.ts';
import { Failure, oneLine } from './failure.ts';

/** The form of a region, which becomes part of a host name. */
export const regionForm = /^[a-z]{2,5}(-[a-z]+)+-\d{1,2}$/;

/** Key -> the check of its value. The profiles of release 1.8 pass too; they lack some of the keys. */
type Forms = Readonly<Record<string, (value: string) => boolean>>;
type Section = ReadonlyMap<string, string>;

/** @param tokenFolder the folder of the role tokens, where the sidecar keeps any. @throws Failure `config_refused`, which names the line and not its value. */
export function requireConfigForm(text: string, tokenFile: string, tokenFolder?: string): void {
  const forms: Forms = {
    source_profile: (value) => nameForm.test(value),
    web_identity_token_file: (value) => value === tokenFile || tokenProfile(value, tokenFolder) !== undefined,
    role_arn: (value) => parseRoleArn(value) !== undefined,
    // https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
    role_session_name: (value) => /^[\w+=,.@-]{2,64}$/.test(value),
    region: (value) => regionForm.test(value),
  };
  const sections = new Map<string, Section>();
  let current: Map<string, string> | undefined;
  const proposed = new Set<string>();
  for (const [index, line] of text.split(/\r?\n/).entries()) {
    const at = `line ${index + 1}`;
    // Some readers take other characters for the end of a line. A line that begins with a blank continues the line before.
    if (/[^\x20-\x7e]|^ +\S/.test(line)) throw refused(`${at} has characters or blanks that no AWS config file needs`);
    const proposal = readProposal(line);
    if (proposal !== undefined) {
      if (!isProfileName(proposal) || proposed.has(proposal)) throw refused(`${at} proposes no new profile`);
      if (proposed.add(proposal).size > mostProposals) throw refused(`${at} is one proposal too many`);
    }
    if (line.trim() === '' || line.startsWith('#')) continue;
    const name = /^\[profile ([^\]]*)\] *$/.exec(line)?.[1];
    if (name !== undefined) {
      if (!isProfileName(name) || sections.has(name)) throw refused(`${at} names no new profile`);
      current = new Map();
      sections.set(name, current);
      continue;
    }
    // trimEnd() comes first: to match trailing blanks, a pattern needs time quadratic in their number.
    const [, key = '', value = ''] = /^([a-z_]+) *= *(.*)$/.exec(line.trimEnd()) ?? [];
    const form = Object.hasOwn(forms, key) ? forms[key] : undefined;
    if (!current || !form || current.has(key)) throw refused(`${at} is no setting of a role: ${oneLine(key, 40)}`);
    if (!form(value)) throw refused(`${at} has a ${key} that is not of its form${hints[key] ?? ''}`);
    current.set(key, value);
  }
  for (const [name, section] of sections) requireWay(name, section, sections);
}

/** The profile whose token file this is. A path from a compromised service must not lead out of the folder. */
export function tokenProfile(path: string, folder: string | undefined): string | undefined {
  if (folder === undefined || !path.startsWith(`${folder}/`)) return undefined;
  const profile = path.slice(folder.length + 1);
  return profile.split('/').every((part) => /^[\w+=,.@-]+$/.test(part) && !/^\.{1,2}$/.test(part))
    ? profile
    : undefined;
}

const nameForm = /^[\w+=,.@/-]{1,700}$/;
const isProfileName = (name: string) => nameForm.test(name) && name !== 'default';

const hints: Record<string, string> = {
  web_identity_token_file: ', the file of AWS_WEB_IDENTITY_TOKEN_FILE',
};

/** Requires that a profile assumes its role with the pod's token, or through a source profile that does. */
function requireWay(name: string, section: Section, sections: ReadonlyMap<string, Section>): void {
  const source = section.get('source_profile');
  const direct = section.has('web_identity_token_file');
  const ways = source === undefined ? direct : !direct && sections.get(source)?.has('web_identity_token_file');
  if (!section.has('role_arn') || !ways) throw refused(`profile ${oneLine(name, 80)} is no role by the pod's token`);
}

const refused = (detail: string) => new Failure('config_refused', { detail });
