/** Owns the classification of STS's refusals: each has a stable code, a description and advice. Pure. */
import { oneLine } from './failure.ts';

/** A role is reached in two hops: with the pod's token to the proxy role, and from there to the role itself. */
export type Hop = 'source' | 'target';

export interface StsProblem {
  readonly hop: Hop;
  readonly code: StsProblemCode;
  /** One line. */
  readonly text: string;
  readonly advice: string;
}

/** Code -> what happened, and what to do. Codes never change their meaning; the texts may. */
const words = {
  no_source: ['the config file has no source profile for it', 'Give your administrator this message.'],
  no_region: ['neither the profile nor AWS_REGION names a region', 'Administrator: set AWS_REGION for the sidecar.'],
  no_token: ['there is no web identity token', "Administrator: the token's volume, and AWS_WEB_IDENTITY_TOKEN_FILE."],
  session_expired: [
    'its session ran out and was not renewed',
    'Nothing at first: the sidecar asks for it again within a minute or two. If this lasts, tell your administrator.',
  ],
  sts_unreachable: ['STS cannot be reached', 'Administrator: the network to STS, HTTPS_PROXY, NO_PROXY, its CA.'],
  proxy_failed: ['the forward proxy does not let the call through', 'Administrator: HTTPS_PROXY and NO_PROXY.'],
  sts_throttled: ['STS gets too many calls', 'Nothing to do: it is asked again.'],
  sts_failed: ['STS failed', 'Nothing to do: it is asked again.'],
  sts_refused: ['STS refused the call', 'Give your administrator this message.'],
  sts_odd_answer: ['something other than STS answered', 'Administrator: AWS_ENDPOINT_URL_STS, and proxies on the way.'],
  region_disabled: [
    "STS is switched off in the region, for the role's account",
    'Administrator: activate the region for STS.',
  ],
  source_refused: [
    "the proxy role's trust policy does not let this run in (yet), or there is no such role: STS says the same of both",
    'A new run is let in within a minute. If this lasts, ask your administrator what /trust_status says of the proxy role.',
  ],
  provider_missing: [
    "the cluster's OIDC provider is missing in the proxy role's account",
    "Administrator: create the IAM OIDC provider of the cluster's issuer.",
  ],
  provider_thumbprint: [
    "the OIDC provider in IAM has another thumbprint than the issuer's certificate",
    "Administrator: update the thumbprints of the cluster's OIDC provider in IAM.",
  ],
  provider_keys_unreachable: [
    "AWS could not fetch the keys of the cluster's OIDC provider",
    'As a rule this is temporary. If it lasts, the administrator: can the issuer be reached from the internet?',
  ],
  token_audience: [
    "the token's audience is no client id of the OIDC provider in IAM",
    "Administrator: add the token's audience (OIDC_PROVIDER_AUDIENCE) to the provider's client ids.",
  ],
  token_damaged: [
    'the web identity token is damaged, or no token at all',
    'Restart the workload. If this lasts, the administrator: the file of AWS_WEB_IDENTITY_TOKEN_FILE.',
  ],
  token_expired: [
    'the web identity token has expired and was not replaced',
    "Restart the workload. If this lasts, the administrator: the token's volume.",
  ],
  token_not_accepted: ['AWS does not accept the web identity token', 'Give your administrator this message.'],
  target_refused: [
    'the role does not exist, does not trust the proxy role, or the proxy role may not assume it: STS says the same of all three',
    "Administrator: the role's ARN, then its trust policy, then the policies of the proxy role.",
  ],
  target_not_allowed: [
    "the proxy role's own policies do not allow sts:AssumeRole on this role",
    "Administrator: allow it in the proxy role's policies.",
  ],
  target_denied: ['a policy denies this step explicitly', 'Administrator: the policy that the message names.'],
  clock_wrong: ["the clock of this machine is not AWS's", 'Administrator: the time of the node.'],
} as const;

export type StsProblemCode = keyof typeof words;

/** @param said STS's own message, or the place of the problem: cut to one line, without tokens. */
export function stsProblem(hop: Hop, code: StsProblemCode, said = ''): StsProblem {
  const [text, advice] = words[code];
  const detail = oneLine(said.replace(/\beyJ[\w-]{8,}[\w.-]*/g, '(token)'), 240);
  return { hop, code, text: detail === '' ? text : `${text} (${detail})`, advice };
}

/** Classifies an answer of STS other than 200: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html */
export function refusedBySts(hop: Hop, status: number, xml: string): StsProblem {
  const element = (name: string) => unescaped(new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml)?.[1] ?? '');
  const [error, message] = [element('Code'), element('Message')];
  const said = [error === '' ? `HTTP ${status}` : error, message].filter(Boolean).join(': ');
  return stsProblem(hop, codeOf(hop, status, error, message), said);
}

function codeOf(hop: Hop, status: number, error: string, message: string): StsProblemCode {
  if (/Throttl|LimitExceeded|TooManyRequests/.test(error) || status === 429) return 'sts_throttled';
  if (error === 'RegionDisabledException') return 'region_disabled';
  if (status >= 500) return 'sts_failed';
  if (error === '') return 'sts_odd_answer';
  return (hop === 'source' ? sourceCode(error, message) : targetCode(error, message)) ?? 'sts_refused';
}

function sourceCode(error: string, message: string): StsProblemCode | undefined {
  if (/^AccessDenied/.test(error)) return 'source_refused';
  if (/^ExpiredToken/.test(error)) return 'token_expired';
  if (error === 'IDPCommunicationError') return 'provider_keys_unreachable';
  if (error !== 'InvalidIdentityToken') return undefined;
  // STS has one code for all of these: only its message tells them apart.
  const found = invalidTokens.find(([form]) => form.test(message));
  return found?.[1] ?? 'token_not_accepted';
}

const invalidTokens: readonly (readonly [RegExp, StsProblemCode])[] = [
  [/audience|client ?id/i, 'token_audience'],
  [/thumbprint/i, 'provider_thumbprint'],
  [/verification key|keys? from your identity provider|jwks|HTTPS certificate/i, 'provider_keys_unreachable'],
  [/no openidconnect provider|provider (was )?not found/i, 'provider_missing'],
  [/expired/i, 'token_expired'],
  [/not a valid JWT|malformed|JWT format|signature|could not be (parsed|decoded)/i, 'token_damaged'],
];

function targetCode(error: string, message: string): StsProblemCode | undefined {
  if (/^(SignatureDoesNotMatch|RequestExpired|RequestTimeTooSkewed)$/.test(error)) return 'clock_wrong';
  if (!/^AccessDenied/.test(error)) return undefined;
  if (/explicit deny/i.test(message)) return 'target_denied';
  return /no identity-based policy allows/i.test(message) ? 'target_not_allowed' : 'target_refused';
}

const entities: Record<string, string> = { amp: '&', apos: "'", quot: '"', lt: '<', gt: '>', '#39': "'", '#34': '"' };

function unescaped(text: string): string {
  return text.replace(/&([a-z]{2,4}|#\d\d);/g, (all, name: string) => entities[name] ?? all);
}
