/** Owns the requests of the loads, and what they read from the answers. */

export interface Asked {
  url: string;
  token: string;
  run: string;
}

export interface StormResult {
  /** Milliseconds from sending to the whole answer, of each 200. */
  ms: number[];
  /** How often each answer other than 200 came: `503 grant_pending`. */
  failed: Record<string, number>;
  /** Runs that got a profile for a role whose trust policy did not admit them, or too few profiles. */
  lost: string[];
}

/** The proxy roles' ARNs in an AWS config text, one for each profile. */
export function proxyArnsOf(config: string): string[] {
  return [...config.matchAll(/^\[profile src_[^\]]*\][^[]*?^role_arn = (\S+?:role\/\S+)$/gm)].map(
    (match) => match[1] ?? '',
  );
}

export function nameOf(roleArn: string): string {
  return roleArn.replace(/^.*?:role\//, '');
}

/** @param text the answer, or what went wrong where there is none and `status` is 0. */
export function codeOf(status: number, text: string): string {
  const code = /"code":"(\w+)"/.exec(text)?.[1] ?? (status === 0 ? text : undefined);
  return code === undefined ? String(status) : `${status} ${code}`;
}
