/** Owns the text of the AWS config file that workloads read. Pure. */
import { parseRoleArn } from '../lib/arn.ts';
import { mostProposals, proposalLine } from '../lib/default-proposal.ts';

/** The outcome for one target role: a profile, or a comment with the reason. */
export type RoleOutcome =
  | {
      kind: 'granted';
      target: string;
      proxy: string;
      /** Which of the run's service accounts cannot use it, and why. */
      note?: string;
      carrier?: 'token';
    }
  | { kind: 'refused'; target: string; code: string; detail: string; carrier?: 'token' };

export interface AwsConfigInput {
  user: string;
  /** The organizations that Domino names for the user. */
  orgs: readonly string[];
  /** 24 hex digits. */
  run: string;
  region: string;
  /** The path of the web identity token as the workload sees it. */
  tokenPath: string;
  /** The folder of the role tokens as the workload sees it. */
  tokenDir: string;
  /** When it is written, milliseconds since the epoch. */
  now: number;
  outcomes: readonly RoleOutcome[];
  /** The targets that the user's organizations propose as the default profile. */
  proposed?: ReadonlySet<string>;
}

/**
 * The config file: for each granted role a profile and its source profile, for each refused one a comment, by name.
 * The same input gives the same bytes. The form is the one that every AWS SDK reads:
 * https://docs.aws.amazon.com/sdkref/latest/guide/file-format.html
 */
export function awsConfig(input: AwsConfigInput): string {
  const written = new Date(input.now).toISOString();
  const user = printable(input.user);
  if (input.outcomes.length === 0) {
    const nobody = `no organization of this user is mapped to a role; Domino names ${listed(input.orgs)}`;
    return `# irsa-svc: no roles of ${user} for run ${input.run}, written ${written}: ${nobody}\n`;
  }
  const session = sessionName(input.user, input.run);
  // Roles by token get their names first, since the call for the tokens names them without knowing the other outcomes.
  // Granted roles come before refused ones, which need a name only for their comment.
  const byKind = Object.groupBy(input.outcomes, ({ kind, carrier }) => carrier ?? kind);
  const lists = [byKind.token ?? [], byKind.granted ?? [], byKind.refused ?? []];
  const names = profileNames(lists.map((list) => list.map(({ target }) => target)));
  const blocks = input.outcomes
    .map((outcome) => ({ outcome, ...(names.get(outcome.target) as ProfileName) }))
    .sort((a, b) => compare(a.name, b.name))
    .map(({ outcome, name, renamed }) => {
      if (outcome.kind === 'refused') return `# ${name}: refused, ${outcome.code}: ${printable(outcome.detail)}`;
      const tokenPath = outcome.carrier === 'token' ? `${input.tokenDir}/${name}` : input.tokenPath;
      const lines = profile(name, outcome, `role_session_name = ${session}\nregion = ${input.region}`, tokenPath);
      if (renamed) lines.unshift(`# ${name}: named so since the role's own name is taken, or not read by every SDK`);
      if (outcome.note !== undefined) lines.unshift(`# ${name}: ${printable(outcome.note)}`);
      return lines.join('\n');
    });
  // Proposals of refused roles too, so that the choice among them does not depend on which role was granted first.
  const proposals = [...names].filter(([target]) => input.proposed?.has(target)).map(([, { name }]) => name);
  const comments = proposals.sort(compare).slice(0, mostProposals).map(proposalLine);
  const first = `# irsa-svc: roles of ${user} for run ${input.run}, written ${written}`;
  return `${[first, ...comments, ...blocks].join('\n')}\n`;
}

/** A role that is assumed directly needs no source profile. @param end the lines that every profile ends with. */
function profile(name: string, outcome: RoleOutcome & { kind: 'granted' }, end: string, tokenPath: string): string[] {
  const { target, proxy, carrier } = outcome;
  const byToken = (role: string) => [`web_identity_token_file = ${tokenPath}`, `role_arn = ${role}`, end];
  if (target === proxy && carrier === 'token') return [`[profile ${name}]`, ...byToken(target)];
  const chained = [`[profile ${name}]`, `source_profile = src_${name}`, `role_arn = ${target}`, end];
  return [...chained, `[profile src_${name}]`, ...byToken(proxy)];
}

/**
 * The session name that CloudTrail shows: 2 to 64 characters of `\w+=,.@-`.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
export function sessionName(user: string, run: string): string {
  const safe = user.replace(/[^A-Za-z0-9_+=,.@-]/g, '-').slice(0, 64 - 1 - run.length);
  return `${safe}-${run}`;
}

/** The profile names that the config file gives to roles by token: target -> name. */
export function tokenProfiles(targets: readonly string[]): Map<string, string> {
  return new Map([...profileNames([targets])].map(([target, { name }]) => [target, name]));
}

interface ProfileName {
  name: string;
  renamed: boolean;
}

/**
 * A profile name for each ARN: the text after `:role/`; where that is taken, by ARN order, with the account after it.
 * `=` and `,` are replaced: the AWS SDK for JavaScript ignores profiles with these in their names.
 */
function profileNames(lists: readonly (readonly string[])[]): Map<string, ProfileName> {
  const names = new Map<string, ProfileName>();
  // Every SDK uses `[profile default]` where no profile is named.
  const taken = new Set<string>(['default']);
  for (const arn of lists.flatMap((arns) => [...new Set(arns)].sort(compare))) {
    const role = parseRoleArn(arn);
    const plain = role ? role.pathAndName : printable(arn);
    let name = plain.replace(role ? /[=,]/g : /[^A-Za-z0-9_./@-]/g, '-');
    while (taken.has(name) || taken.has(`src_${name}`)) name = `${name}@${role?.account ?? 'unknown'}`;
    taken.add(name);
    taken.add(`src_${name}`);
    names.set(arn, { name, renamed: name !== plain });
  }
  return names;
}

/** The number of organizations, and the first of them as JSON, which the sidecar parses and reports. */
function listed(orgs: readonly string[]): string {
  return `${orgs.length}: ${JSON.stringify(orgs.slice(0, 20).map((org) => printable(org).slice(0, 100)))}`;
}

/** Text for a comment: one line, printable, short. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 500);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
