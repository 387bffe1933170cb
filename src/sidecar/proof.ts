/**
 * Owns the proof that a source profile works: AssumeRoleWithWebIdentity, asked until STS agrees or a minute has passed,
 * since IAM takes seconds to spread a change.
 *
 * The call needs no signature, so it is made without the AWS SDK (builtins.ts says why):
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
 */
import type { Clock } from '../clock.ts';
import { readText } from './config-file.ts';
import { Broken, exchange } from './exchange.ts';
import { oneLine } from './failure.ts';
import type { SourceProfile } from './profiles.ts';
import { systemTrust, withTrust } from './trust.ts';

/** What came of one source profile. */
export interface Proof {
  readonly profile: string;
  /** From the first try to STS's yes, or to the end of patience. */
  readonly seconds: number;
  readonly tries: number;
  /** Why it is not proved, in words; undefined when it is. */
  readonly problem: string | undefined;
}

export interface ProofOptions {
  tokenFile: string;
  /** For profiles without a region. */
  region: string | undefined;
  /** In place of the regional STS. */
  endpoint: string | undefined;
  clock: Clock;
  random: () => number;
  signal: AbortSignal;
}

const patienceMs = 60_000;
const tryMs = 5_000;
const [firstWaitMs, longestWaitMs] = [200, 3_000];

export async function prove(sources: readonly SourceProfile[], options: ProofOptions): Promise<Proof[]> {
  return await Promise.all(sources.map((source) => proveOne(source, options)));
}

async function proveOne(source: SourceProfile, options: ProofOptions): Promise<Proof> {
  const { clock, random, signal } = options;
  const start = clock.monotonic();
  for (let tries = 1; ; tries += 1) {
    const left = () => start + patienceMs - clock.monotonic();
    const problem = await tryOnce(source, options);
    const over = problem === undefined || left() <= 0 || signal.aborted;
    if (over) return { profile: source.name, seconds: (clock.monotonic() - start) / 1000, tries, problem };
    const wait = Math.min(longestWaitMs, firstWaitMs * 2 ** (tries - 1)) * (0.5 + random() / 2);
    await clock.sleep(Math.min(wait, left()), signal);
  }
}

/** @returns why STS did not agree, or undefined. What it gives on a yes is neither read nor kept. */
async function tryOnce(source: SourceProfile, options: ProofOptions): Promise<string | undefined> {
  const { clock, signal } = options;
  const url = options.endpoint ?? stsEndpoint(source.roleArn, source.region ?? options.region);
  if (url === undefined) return 'neither the profile nor AWS_REGION names a region';
  // Anew for each try: the kubelet replaces it long before it expires.
  const token = readText(options.tokenFile).text?.trim();
  if (!token) return `there is no web identity token in ${options.tokenFile}`;
  const body = new URLSearchParams({
    Action: 'AssumeRoleWithWebIdentity',
    Version: '2011-06-15',
    RoleArn: source.roleArn,
    RoleSessionName: source.sessionName ?? 'irsa-svc-sidecar',
    // The shortest that STS gives: nobody uses the session.
    DurationSeconds: '900',
    WebIdentityToken: token,
  }).toString();
  const headers = { 'content-type': 'application/x-www-form-urlencoded', 'user-agent': 'irsa-svc-sidecar' };
  try {
    const { status, text } = await withTrust(systemTrust, (secureContext) =>
      exchange({ url, method: 'POST', headers, body, deadlineMs: tryMs, clock, signal, tls: { secureContext } }),
    );
    return status === 200 ? undefined : inWords(status, text);
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    return `STS cannot be reached at ${new URL(url).host} (${error.code})`;
  }
}

/** https://docs.aws.amazon.com/general/latest/gr/sts.html, and the SDKs' partitions.json for the suffixes. */
const suffixes: Record<string, string> = {
  'aws-cn': 'amazonaws.com.cn',
  'aws-eusc': 'amazonaws.eu',
  'aws-iso': 'c2s.ic.gov',
  'aws-iso-b': 'sc2s.sgov.gov',
};

/** The regional one always: the global one is in another region, and may be closed to the cluster. */
export function stsEndpoint(roleArn: string, region: string | undefined): string | undefined {
  const partition = roleArn.split(':')[1] ?? 'aws';
  return region === undefined ? undefined : `https://sts.${region}.${suffixes[partition] ?? 'amazonaws.com'}/`;
}

const reasons: Record<string, string> = {
  AccessDenied: "the role's trust policy does not let this run in (yet)",
  InvalidIdentityToken: "AWS does not know the cluster's tokens: its OIDC provider is missing in the role's account",
  ExpiredTokenException: 'the web identity token has expired and was not replaced',
  IDPCommunicationError: "AWS cannot reach the cluster's OIDC provider",
};

function inWords(status: number, text: string): string {
  const code = /<Code>([^<]*)<\/Code>/.exec(text)?.[1] ?? `HTTP ${status}`;
  const message = /<Message>([^<]*)<\/Message>/.exec(text)?.[1] ?? '';
  const reason = Object.hasOwn(reasons, code) ? reasons[code] : undefined;
  return reason === undefined ? oneLine(`${code} ${message}`, 200) : `${reason} (${code})`;
}
