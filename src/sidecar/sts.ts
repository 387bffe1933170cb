/**
 * Owns the two calls to STS: AssumeRoleWithWebIdentity with the pod's token, and AssumeRole with the session from it. It does
 * not use the AWS SDK: builtins.ts says why.
 */
import type { Clock } from '../lib/clock.ts';
import { type ProxyEnvironment, proxyFor } from '../lib/forward-proxy.ts';
import { Broken } from './broken.ts';
import { readText } from './config-file.ts';
import { exchange } from './exchange.ts';
import type { Profile, SourceProfile, TargetProfile } from './profiles.ts';
import { type Session, sign } from './sigv4.ts';
import { type Hop, refusedBySts, type StsProblem, stsProblem } from './sts-problem.ts';
import { systemTrust, withTrust } from './trusted-cas.ts';

/** A web identity token; `place` is the path where it should be, which messages may show. */
export interface WebIdentity {
  readonly token: string | undefined;
  readonly place: string;
}

export interface StsOptions {
  /** Returns the token for this role; called for each try, since tokens are replaced long before they expire. */
  webIdentity: (source: SourceProfile) => WebIdentity;
  /** The region of profiles that name none. */
  region: string | undefined;
  /** The STS to call in place of the regional one. */
  endpoint: string | undefined;
  proxyEnv: ProxyEnvironment;
  clock: Clock;
  signal: AbortSignal;
  /** How long a session lives. By default the shortest that STS allows, since a proof drops its session. */
  durationSeconds?: number;
  /** Receives AWS's time, milliseconds since the epoch. */
  onTime?: (time: number) => void;
}

export interface IssuedSession extends Session {
  /** Milliseconds since the epoch. */
  readonly expiresAt: number;
}

/** A session, or why there is none. */
export type HopResult = { session: IssuedSession; problem?: undefined } | { problem: StsProblem; session?: undefined };

const tryMs = 5_000;
const maxBytes = 64 * 1024;

/** The pod's own token, with which the run assumes its proxy roles. */
export function podToken(path: string): StsOptions['webIdentity'] {
  return () => ({ token: readText(path).text?.trim(), place: path });
}

/** The call needs no signature: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html */
export async function assumeSource(source: SourceProfile, options: StsOptions): Promise<HopResult> {
  const { token, place } = options.webIdentity(source);
  if (!token) return { problem: stsProblem('source', 'no_token', place) };
  const more = { Action: 'AssumeRoleWithWebIdentity', WebIdentityToken: token };
  return await post('source', source, more, options, (_url, headers) => headers);
}

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html */
export async function assumeTarget(target: TargetProfile, session: Session, options: StsOptions): Promise<HopResult> {
  const region = target.region ?? options.region ?? 'us-east-1';
  const now = options.clock.now();
  return await post('target', target, { Action: 'AssumeRole' }, options, (url, headers, body) =>
    sign({ method: 'POST', url, headers, body, region, service: 'sts', now }, session),
  );
}

type Headers = Record<string, string>;

async function post(
  hop: Hop,
  profile: Profile,
  more: Record<string, string>,
  options: StsOptions,
  signed: (url: URL, headers: Headers, body: string) => Headers,
): Promise<HopResult> {
  const { clock, signal, durationSeconds = 900 } = options;
  const url = options.endpoint ?? stsEndpoint(profile.roleArn, profile.region ?? options.region);
  if (url === undefined) return { problem: stsProblem(hop, 'no_region') };
  const body = new URLSearchParams({
    ...more,
    Version: '2011-06-15',
    RoleArn: profile.roleArn,
    RoleSessionName: profile.sessionName ?? 'irsa-svc-sidecar',
    DurationSeconds: String(durationSeconds),
  }).toString();
  const headers = signed(new URL(url), { 'content-type': 'application/x-www-form-urlencoded' }, body);
  const call = { url, method: 'POST' as const, body, deadlineMs: tryMs, maxBytes, clock, signal };
  const proxy = proxyFor(url, options.proxyEnv);
  try {
    const answer = await withTrust(systemTrust, (secureContext) =>
      exchange({ ...call, headers: { ...headers, 'user-agent': 'irsa-svc-sidecar' }, tls: { secureContext }, proxy }),
    );
    const time = Date.parse(answer.headers.date ?? '');
    if (!Number.isNaN(time)) options.onTime?.(time);
    if (answer.status !== 200) return { problem: refusedBySts(hop, answer.status, answer.text) };
    const session = readSession(answer.text, clock.now() + durationSeconds * 1000);
    return session ? { session } : { problem: stsProblem(hop, 'sts_odd_answer', 'HTTP 200') };
  } catch (error) {
    if (!(error instanceof Broken)) throw error;
    const code = error.kind === 'proxy' ? 'proxy_failed' : 'sts_unreachable';
    return { problem: stsProblem(hop, code, `${new URL(url).host}: ${error.code}`) };
  }
}

/** @param otherwise when the session expires, if the answer does not say. */
function readSession(xml: string, otherwise: number): IssuedSession | undefined {
  const element = (name: string) => new RegExp(`<${name}>([^<\\s]+)</${name}>`).exec(xml)?.[1];
  const accessKeyId = element('AccessKeyId');
  const secretAccessKey = element('SecretAccessKey');
  const sessionToken = element('SessionToken');
  if (!accessKeyId || !secretAccessKey || !sessionToken) return undefined;
  const expiresAt = Date.parse(element('Expiration') ?? '');
  return { accessKeyId, secretAccessKey, sessionToken, expiresAt: Number.isNaN(expiresAt) ? otherwise : expiresAt };
}

/** https://docs.aws.amazon.com/general/latest/gr/sts.html, and the SDKs' partitions.json for the suffixes. */
const suffixes: Record<string, string> = {
  'aws-cn': 'amazonaws.com.cn',
  'aws-eusc': 'amazonaws.eu',
  'aws-iso': 'c2s.ic.gov',
  'aws-iso-b': 'sc2s.sgov.gov',
};

/** Always the regional endpoint: the global one is in another region, and the cluster may have no access to it. */
export function stsEndpoint(roleArn: string, region: string | undefined): string | undefined {
  const partition = roleArn.split(':')[1] ?? 'aws';
  return region === undefined ? undefined : `https://sts.${region}.${suffixes[partition] ?? 'amazonaws.com'}/`;
}
