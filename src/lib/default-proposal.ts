/** Owns the comment line of the AWS config file by which organizations propose a default profile. Pure. */

/** More than one is a disagreement already; the rest of many is left out. */
export const mostProposals = 10;

const start = '# default profile: ';

/** AWS's tools, and clients of before, pass over it. */
export const proposalLine = (profile: string): string => `${start}${profile}`;

/** @returns the profile's name as the line has it; undefined where the line is another one. */
export function readProposal(line: string): string | undefined {
  return line.startsWith(start) ? line.slice(start.length).trimEnd() : undefined;
}
