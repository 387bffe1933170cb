/** Owns the settings: the name of each in the environment, its form, its default, and its text for docs/settings.md. */
import { isIP } from 'node:net';
import { z } from 'zod';

const matching = (form: RegExp, expected: string) => z.string(expected).regex(form, expected);

function url(expected: string, extra: (parsed: URL) => boolean = () => true) {
  return z.string(expected).refine((text) => {
    const parsed = URL.canParse(text) ? new URL(text) : undefined;
    if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.search || parsed.hash) return false;
    // A password in a URL would end up in logs and error messages.
    return !parsed.username && !parsed.password && extra(parsed);
  }, expected);
}

function numeric(minimum: number, maximum: number, form: RegExp, kind: string) {
  const expected = `expected ${kind} from ${minimum} to ${maximum}`;
  return z
    .string(expected)
    .regex(form, expected)
    .transform(Number)
    .refine((value) => value >= minimum && value <= maximum, expected);
}

const integer = (minimum: number, maximum: number) => numeric(minimum, maximum, /^\d{1,9}$/, 'a whole number');
const decimal = (minimum: number, maximum: number) => numeric(minimum, maximum, /^\d{1,6}(\.\d{1,3})?$/, 'a number');
const boolean = () => matching(/^(true|false)$/i, 'expected true or false').transform((text) => /^true$/i.test(text));

/** RFC 1123 section 2.1, as Kubernetes narrows it: a namespace is one label. */
const namespace = () =>
  matching(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/,
    'expected a Kubernetes namespace: up to 63 lower-case letters, digits and hyphens',
  );
const deploymentName = () =>
  matching(
    /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/,
    'expected the name of a Kubernetes Deployment: lower-case letters, digits, hyphens and dots',
  );
// The path goes into an INI file, where `;` and `#` can start a comment and white space ends a value.
const path = () => matching(/^\/[^\s;#"']+$/, 'expected an absolute path without white space, quotes, ; or #');

const oidcProvider = z
  .string('expected the issuer of the EKS cluster without a scheme: oidc.eks.us-west-2.amazonaws.com/id/…')
  .refine(
    (text) => !text.includes('://'),
    'expected no scheme: IAM names condition keys by the bare issuer, so leave out https://',
  )
  .refine((text) => !text.endsWith('/'), 'expected no slash at the end: it would be part of the condition keys')
  .refine(
    (text) => /:\/\/|\/$/.test(text) || /^[a-z0-9-]+(\.[a-z0-9-]+)+(:\d{1,5})?(\/[A-Za-z0-9._~-]+)+$/.test(text),
    'expected a host and a path: oidc.eks.us-west-2.amazonaws.com/id/…',
  );

/** An address, or a CIDR whose prefix is not longer than its addresses. */
function isNetwork(text: string): boolean {
  const [, address = '', prefix] = /^([0-9a-fA-F.:]+)(?:\/(\d{1,3}))?$/.exec(text) ?? [];
  const family = isIP(address);
  return family !== 0 && (prefix === undefined || Number(prefix) <= (family === 4 ? 32 : 128));
}

const proxiesExpected = 'expected a number of proxies from 0 to 9, or addresses and CIDRs with commas between them';
const trustedProxies = z
  .string(proxiesExpected)
  .transform((text) => (/^\d$/.test(text) ? Number(text) : text.split(',').map((part) => part.trim())))
  .refine((parsed) => typeof parsed === 'number' || parsed.every(isNetwork), proxiesExpected);

export const settings = z.object({
  OIDC_PROVIDER: oidcProvider.describe(
    "The EKS cluster's OIDC issuer without a scheme: `oidc.eks.us-west-2.amazonaws.com/id/…`.",
  ),
  // It goes into a StringLike condition, where `*`, `?` and `$` would be patterns.
  OIDC_PROVIDER_AUDIENCE: matching(
    /^[\x21-\x23\x25-\x29\x2b-\x3e\x40-\x7e]+$/,
    'expected a word without spaces, and without *, ? and $',
  )
    .default('sts.amazonaws.com')
    .describe("The audience of the pods' tokens."),
  // Keycloak's issuers have no slash at the end, and `iss` is compared to the letter.
  DOMINO_ISSUER: url(
    'expected https://<domino>/auth/realms/DominoRealm, without a slash at the end',
    (parsed) => parsed.pathname.length > 1 && !parsed.pathname.endsWith('/'),
  ).describe('What `iss` of a Domino token must be, to the letter.'),
  DOMINO_JWKS_URL: url('expected an http(s) URL')
    .optional()
    .describe("The realm's keys, where the cluster does not reach `<DOMINO_ISSUER>/protocol/openid-connect/certs`."),
  DOMINO_AUDIENCE: z
    .string()
    .optional()
    .describe('The audience that a Domino token must carry. Without it, any audience will do.'),
  DOMINO_USER_HOST: url('expected an http(s) URL')
    .default('http://nucleus-frontend.domino-platform:80')
    .describe("Domino's API."),
  ALLOW_DOMINO_API_KEY: boolean().default(true).describe('Accept `X-Domino-Api-Key` in place of a bearer token.'),
  DEFAULT_FIELD_NS: namespace().default('domino-field').describe('The namespace of mappings, statuses and the lease.'),
  DEFAULT_COMPUTE_NS: namespace().default('domino-compute').describe('The namespace of runs.'),
  DEFAULT_PLATFORM_NS: namespace().default('domino-platform').describe("The namespace of domsed's Mutations."),
  // https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
  EKS_CLUSTER_NAME: matching(
    /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/,
    'expected the name of an EKS cluster: up to 100 letters, digits, hyphens and underscores',
  )
    .optional()
    .describe('The EKS cluster. [Pod Identity](pod-identity.md) is on only with it.'),
  AWS_REGION: matching(/^[a-z]{2,5}(-[a-z]+)+-\d{1,2}$/, 'expected the name of an AWS region: us-west-2').describe(
    "The region of every profile. The AWS SDK's other variables work as usual.",
  ),
  WEB_IDENTITY_TOKEN_PATH: path()
    .default('/var/run/secrets/eks.amazonaws.com/serviceaccount/token')
    .describe("The pod's token file, as the workload sees it."),
  ROLE_TOKEN_DIR: path()
    .default('/var/run/.aws/tokens')
    .describe('The folder of the role tokens, as the workload sees it. It should lie in memory.'),
  // Kubernetes issues no token for less than ten minutes.
  ROLE_TOKEN_SECONDS: integer(600, 86_400).default(3600).describe('How long a role token lives.'),
  // IAM's "Role trust policy length" quota: 2,048 characters, up to 8,192 on request.
  TRUST_POLICY_MAX_CHARS: integer(512, 8192)
    .default(2048)
    .describe('The AWS account\'s quota "Role trust policy length", in characters.'),
  IAM_READS_PER_SECOND: decimal(0.1, 1000).default(10).describe("The leader's limit of IAM reads."),
  IAM_WRITES_PER_SECOND: decimal(0.1, 1000).default(5).describe("The leader's limit of IAM writes."),
  GRANT_TIMEOUT_SECONDS: decimal(0.1, 120).default(25).describe('How long a request waits for IAM.'),
  RESYNC_SECONDS: decimal(1, 86_400).default(300).describe('How often the leader compares all proxy roles with IAM.'),
  RATE_LIMIT_PER_MINUTE: integer(0, 1_000_000)
    .default(1200)
    .describe('Requests of one caller to one replica; bad credentials of one address are counted apart. 0 is off.'),
  MAX_CONNECTIONS: integer(50, 100_000)
    .default(2000)
    .describe('Open connections of one replica, 72 KB each. Above it, the longest idle one is closed.'),
  TRUSTED_PROXIES: trustedProxies
    .default(0)
    .describe('The proxies whose `X-Forwarded-For` counts: how many stand in front, or their addresses.'),
  LEASE_SECONDS: integer(3, 60)
    .default(15)
    .describe('How long replicas wait for a leader that has stopped renewing its lease.'),
  EARLIER_DEPLOYMENT: deploymentName()
    .default('irsa')
    .describe("Release 1.8's Deployment in the field namespace. While it has replicas, nothing is written."),
  DEPLOYMENT_NAME: deploymentName()
    .optional()
    .describe("The service's own Deployment in the field namespace: administrators see how many replicas it has."),
  CONSOLE_ENABLED: boolean().default(true).describe('Serve the [console](console.md) at `/console`.'),
  // The form that Keycloak's admin console accepts.
  CONSOLE_CLIENT_ID: matching(
    /^[\x21-\x7e]{1,255}$/,
    'expected the id of a Keycloak client: up to 255 characters, no spaces',
  )
    .optional()
    .describe('The public Keycloak client that people log in to the console with. Without it they paste a token.'),
  RUNBOOK_URL: url('expected an http(s) URL')
    .optional()
    .describe('Where your people read `docs/runbook.md`: the console links to its sections.'),
  // All addresses of both families: in an EKS cluster of the IPv6 family a pod has only an IPv6 address.
  HOST: matching(/^[A-Za-z0-9.:_-]+$/, 'expected an address or a host name')
    .default('::')
    .describe(
      "The address to listen on. `::` is every address, IPv4's too; it becomes `0.0.0.0` where the kernel has no IPv6.",
    ),
  PORT: integer(0, 65_535).default(6000).describe('The port of the API.'),
  TLS_CERT_FILE: z
    .string()
    .default('/ssl/tls.crt')
    .describe('The certificate. It is read again when it changes, without a restart.'),
  TLS_KEY_FILE: z.string().default('/ssl/tls.key').describe('The key of the certificate.'),
  SSL_OFF: boolean().default(false).describe('Serve plain HTTP, for a mesh that does the TLS.'),
  PROMETHEUS_METRICS_PORT: integer(0, 65_535).default(8080).describe('The port of `/metrics`, without TLS.'),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'expected one of fatal, error, warn, info, debug, trace, silent',
    })
    .default('info')
    .describe('The lowest level that is logged, in JSON lines on stdout.'),
});
