/** Owns the settings: the only place that knows their environment names, defaults and forms. */
import { z } from 'zod';

/** Every setting, checked. Units are in the names; paths and URLs are as given. */
export interface Config {
  /** The EKS cluster's issuer without a scheme: `oidc.eks.us-west-2.amazonaws.com/id/<hex>`. */
  readonly oidcProvider: string;
  readonly oidcAudience: string;
  /** What `iss` of a Domino token must be, to the letter. */
  readonly dominoIssuer: string;
  readonly dominoJwksUrl: string;
  readonly dominoAudience?: string;
  readonly dominoUserHost: string;
  readonly allowDominoApiKey: boolean;
  readonly fieldNamespace: string;
  readonly computeNamespace: string;
  /** Where domsed's Mutations are. */
  readonly platformNamespace: string;
  /** The EKS cluster; without it there is no Pod Identity. */
  readonly eksCluster?: string;
  readonly awsRegion: string;
  readonly webIdentityTokenPath: string;
  readonly trustPolicyMaxChars: number;
  readonly iamReadsPerSecond: number;
  readonly iamWritesPerSecond: number;
  readonly grantTimeoutSeconds: number;
  readonly resyncSeconds: number;
  /** Requests per caller and replica; 0 is off. */
  readonly rateLimitPerMinute: number;
  readonly leaseSeconds: number;
  readonly host: string;
  readonly port: number;
  readonly tlsCertFile: string;
  readonly tlsKeyFile: string;
  readonly sslOff: boolean;
  readonly metricsPort: number;
  readonly logLevel: string;
}

/** The settings cannot be used. `message` names every problem, one a line, and no value. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`${problems.length} setting(s) cannot be used:\n${problems.join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

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
// It goes into an INI file, where `;` and `#` can start a comment and white space ends a value.
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

const settings = z.object({
  OIDC_PROVIDER: oidcProvider,
  // It stands in a StringLike, where `*`, `?` and `$` would be patterns.
  OIDC_PROVIDER_AUDIENCE: matching(
    /^[\x21-\x23\x25-\x29\x2b-\x3e\x40-\x7e]+$/,
    'expected a word without spaces, and without *, ? and $',
  ).default('sts.amazonaws.com'),
  // Keycloak compares and emits issuers without a slash at the end, and so do we: to the letter.
  DOMINO_ISSUER: url(
    'expected https://<domino>/auth/realms/DominoRealm, without a slash at the end',
    (parsed) => parsed.pathname.length > 1 && !parsed.pathname.endsWith('/'),
  ),
  DOMINO_JWKS_URL: url('expected an http(s) URL').optional(),
  DOMINO_AUDIENCE: z.string().optional(),
  DOMINO_USER_HOST: url('expected an http(s) URL').default('http://nucleus-frontend.domino-platform:80'),
  ALLOW_DOMINO_API_KEY: boolean().default(true),
  DEFAULT_FIELD_NS: namespace().default('domino-field'),
  DEFAULT_COMPUTE_NS: namespace().default('domino-compute'),
  DEFAULT_PLATFORM_NS: namespace().default('domino-platform'),
  // https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
  EKS_CLUSTER_NAME: matching(
    /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/,
    'expected the name of an EKS cluster: up to 100 letters, digits, hyphens and underscores',
  ).optional(),
  AWS_REGION: matching(/^[a-z]{2,5}(-[a-z]+)+-\d{1,2}$/, 'expected the name of an AWS region: us-west-2'),
  WEB_IDENTITY_TOKEN_PATH: path().default('/var/run/secrets/eks.amazonaws.com/serviceaccount/token'),
  // IAM's "Role trust policy length" quota: 2,048 characters, up to 8,192 on request.
  TRUST_POLICY_MAX_CHARS: integer(512, 8192).default(2048),
  IAM_READS_PER_SECOND: decimal(0.1, 1000).default(10),
  IAM_WRITES_PER_SECOND: decimal(0.1, 1000).default(5),
  GRANT_TIMEOUT_SECONDS: decimal(0.1, 120).default(25),
  RESYNC_SECONDS: decimal(1, 86_400).default(300),
  RATE_LIMIT_PER_MINUTE: integer(0, 1_000_000).default(1200),
  LEASE_SECONDS: integer(3, 60).default(15),
  HOST: matching(/^[A-Za-z0-9.:_-]+$/, 'expected an address or a host name').default('0.0.0.0'),
  PORT: integer(0, 65_535).default(6000),
  TLS_CERT_FILE: z.string().default('/ssl/tls.crt'),
  TLS_KEY_FILE: z.string().default('/ssl/tls.key'),
  SSL_OFF: boolean().default(false),
  PROMETHEUS_METRICS_PORT: integer(0, 65_535).default(8080),
  LOG_LEVEL: z
    .enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
      error: 'expected one of fatal, error, warn, info, debug, trace, silent',
    })
    .default('info'),
});

/**
 * Reads the settings.
 * @param env the environment; an empty string counts as not set, since Helm and Compose write those for "nothing".
 * @returns all settings, frozen.
 * @throws ConfigError that lists every problem at once, so that a start is fixed in one go.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = settings.safeParse(given);
  if (!parsed.success) throw new ConfigError(problemsOf(parsed.error, given));
  const values = parsed.data;
  if (values.PORT !== 0 && values.PORT === values.PROMETHEUS_METRICS_PORT) {
    throw new ConfigError(['PROMETHEUS_METRICS_PORT: expected another port than PORT']);
  }
  return Object.freeze({
    oidcProvider: values.OIDC_PROVIDER,
    oidcAudience: values.OIDC_PROVIDER_AUDIENCE,
    dominoIssuer: values.DOMINO_ISSUER,
    dominoJwksUrl: values.DOMINO_JWKS_URL ?? `${values.DOMINO_ISSUER}/protocol/openid-connect/certs`,
    ...(values.DOMINO_AUDIENCE === undefined ? {} : { dominoAudience: values.DOMINO_AUDIENCE }),
    dominoUserHost: values.DOMINO_USER_HOST,
    allowDominoApiKey: values.ALLOW_DOMINO_API_KEY,
    fieldNamespace: values.DEFAULT_FIELD_NS,
    computeNamespace: values.DEFAULT_COMPUTE_NS,
    platformNamespace: values.DEFAULT_PLATFORM_NS,
    ...(values.EKS_CLUSTER_NAME === undefined ? {} : { eksCluster: values.EKS_CLUSTER_NAME }),
    awsRegion: values.AWS_REGION,
    webIdentityTokenPath: values.WEB_IDENTITY_TOKEN_PATH,
    trustPolicyMaxChars: values.TRUST_POLICY_MAX_CHARS,
    iamReadsPerSecond: values.IAM_READS_PER_SECOND,
    iamWritesPerSecond: values.IAM_WRITES_PER_SECOND,
    grantTimeoutSeconds: values.GRANT_TIMEOUT_SECONDS,
    resyncSeconds: values.RESYNC_SECONDS,
    rateLimitPerMinute: values.RATE_LIMIT_PER_MINUTE,
    leaseSeconds: values.LEASE_SECONDS,
    host: values.HOST,
    port: values.PORT,
    tlsCertFile: values.TLS_CERT_FILE,
    tlsKeyFile: values.TLS_KEY_FILE,
    sslOff: values.SSL_OFF,
    metricsPort: values.PROMETHEUS_METRICS_PORT,
    logLevel: values.LOG_LEVEL,
  });
}

/** One line a problem, in the table's order: `NAME: [required, ]expected …`. */
function problemsOf(error: z.ZodError, given: Record<string, unknown>): string[] {
  return error.issues.map((issue) => {
    const name = String(issue.path[0]);
    return `${name}: ${name in given ? '' : 'required, '}${issue.message}`;
  });
}
