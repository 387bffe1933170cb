/** Owns the text of the AWS config file that workloads read. Pure. */
import { parseRoleArn } from './arn.ts';

/** What became of one target role: a profile, or a comment with the reason. */
export type RoleOutcome =
  | {
      kind: 'granted';
      target: string;
      proxy: string /** For which accounts of the run it is not, and why. */;
      note?: string;
    }
  | { kind: 'refused'; target: string; code: string; detail: string };

export interface AwsConfigInput {
  user: string;
  /** 24 hex digits. */
  run: string;
  region: string;
  /** The path of the web identity token as the workload sees it. */
  tokenPath: string;
  /** When it is written, milliseconds since the epoch. */
  now: number;
  outcomes: readonly RoleOutcome[];
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
    return `# irsa-svc: no roles of ${user} for run ${input.run}, written ${written}: no organization of this user is mapped to a role\n`;
  }
  const session = sessionName(input.user, input.run);
  // Granted roles take their names first: a refused one only needs a name for its comment.
  const byKind = Object.groupBy(input.outcomes, ({ kind }) => kind);
  const names = profileNames(
    [byKind.granted ?? [], byKind.refused ?? []].map((list) => list.map(({ target }) => target)),
  );
  const blocks = input.outcomes
    .map((outcome) => ({ outcome, ...(names.get(outcome.target) as ProfileName) }))
    .sort((a, b) => compare(a.name, b.name))
    .map(({ outcome, name, renamed }) => {
      if (outcome.kind === 'refused') return `# ${name}: refused, ${outcome.code}: ${printable(outcome.detail)}`;
      const lines = [
        `[profile ${name}]`,
        `source_profile = src_${name}`,
        `role_arn = ${outcome.target}`,
        `role_session_name = ${session}`,
        `region = ${input.region}`,
        `[profile src_${name}]`,
        `web_identity_token_file = ${input.tokenPath}`,
        `role_arn = ${outcome.proxy}`,
        `role_session_name = ${session}`,
        `region = ${input.region}`,
      ];
      if (renamed) lines.unshift(`# ${name}: named so since the role's own name is taken, or not read by every SDK`);
      if (outcome.note !== undefined) lines.unshift(`# ${name}: ${printable(outcome.note)}`);
      return lines.join('\n');
    });
  return `${[`# irsa-svc: roles of ${user} for run ${input.run}, written ${written}`, ...blocks].join('\n')}\n`;
}

/**
 * The session name that CloudTrail shows: 2 to 64 characters of `\w+=,.@-`.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
export function sessionName(user: string, run: string): string {
  const safe = user.replace(/[^A-Za-z0-9_+=,.@-]/g, '-').slice(0, 64 - 1 - run.length);
  return `${safe}-${run}`;
}

interface ProfileName {
  name: string;
  renamed: boolean;
}

/**
 * A profile name for each ARN: the text after `:role/`; where that is taken, by ARN order, with the account after it.
 * `=` and `,` are replaced: the AWS SDK for JavaScript passes over profiles with these in their names.
 */
function profileNames(lists: readonly (readonly string[])[]): Map<string, ProfileName> {
  const names = new Map<string, ProfileName>();
  // `[profile default]` would be what every SDK takes where no profile is named.
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

/** Text for a comment: one line, printable, short. */
function printable(text: string): string {
  return text.replace(/[^\x20-\x7e]/g, '?').slice(0, 500);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
