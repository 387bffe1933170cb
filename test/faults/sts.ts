/** Owns how a workload uses a role token: STS's own answer to it. */

/** STS's answer; undefined where another fault prevents one. */
export type Verdict = 'taken' | 'denied' | 'expired' | 'wrong audience' | undefined;

const refusals: Readonly<Record<string, Verdict>> = {
  AccessDenied: 'denied',
  ExpiredTokenException: 'expired',
  InvalidIdentityToken: 'wrong audience',
};

export async function assumeWith(awsUrl: string, token: string, role: string): Promise<Verdict> {
  const body = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: role,
    RoleSessionName: 'faults',
    WebIdentityToken: token,
  });
  try {
    const response = await fetch(awsUrl, { method: 'POST', body, signal: AbortSignal.timeout(5_000) });
    const text = await response.text();
    return response.ok ? 'taken' : refusals[/<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? ''];
  } catch {
    return undefined;
  }
}
