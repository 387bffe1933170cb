/** Owns the comment line in the AWS config file that proposes a default profile. Pure. */

/** Two proposals disagree already, so more than this many are left out. */
export const mostProposals = 10;

const start = '# default profile: ';

/** AWS's tools and older clients ignore the line. */
export const proposalLine = (profile: string): string => `${start}${profile}`;

/** @returns the proposed profile's name; undefined where the line is not a proposal. */
export function readProposal(line: string): string | undefined {
  return line.startsWith(start) ? line.slice(start.length).trimEnd() : undefined;
}
