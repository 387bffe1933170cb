/** Owns the configuration: the settings of the environment, checked, under the names that the code uses. */
import type { z } from 'zod';
import { type ProxyEnvironment, proxyProblems } from './forward-proxy.ts';
import { settings } from './settings.ts';

/** Every setting, checked; settings.ts says what each means. Units are in the names; paths and URLs are as given. */
export interface Config {
  readonly oidcProvider: string;
  readonly oidcAudience: string;
  readonly dominoIssuer: string;
  readonly dominoJwksUrl: string;
  readonly dominoAudience?: string;
  readonly dominoUserHost: string;
  readonly allowDominoApiKey: boolean;
  readonly fieldNamespace: string;
  readonly computeNamespace: string;
  readonly platformNamespace: string;
  /** The EKS cluster; without it there is no Pod Identity. */
  readonly eksCluster?: string;
  readonly awsRegion: string;
  /** The service's own role, as EKS's webhook tells the SDK: named where AWS refuses it. */
  readonly ownRole?: string;
  /** `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` as they are set, in either case, for calls to AWS. */
  readonly awsProxy: ProxyEnvironment;
  readonly webIdentityTokenPath: string;
  readonly roleTokenDir: string;
  readonly roleTokenSeconds: number;
  readonly trustPolicyMaxChars: number;
  readonly iamReadsPerSecond: number;
  readonly iamWritesPerSecond: number;
  readonly grantTimeoutSeconds: number;
  readonly resyncSeconds: number;
  readonly rateLimitPerMinute: number;
  readonly maxConnections: number;
  /** Whose `X-Forwarded-For` counts, as Express' `trust proxy` takes it: how many hops, or addresses and CIDRs. */
  readonly trustedProxies: number | string[];
  readonly leaseSeconds: number;
  readonly earlierDeployment: string;
  /** The service's own; how many replicas there are is not known without it. */
  readonly deployment?: string;
  readonly consoleEnabled: boolean;
  readonly consoleClientId?: string;
  readonly runbookUrl?: string;
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

/**
 * Reads the settings.
 * @param env the environment; an empty string counts as not set, since Helm and Compose write those for "nothing".
 * @returns all settings, frozen.
 * @throws ConfigError that lists every problem at once, so that a start is fixed in one go.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = settings.safeParse(given);
  const problems = [...(parsed.success ? [] : problemsOf(parsed.error, given)), ...proxyProblems(env)];
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
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
    ...(given.AWS_ROLE_ARN === undefined ? {} : { ownRole: given.AWS_ROLE_ARN }),
    awsProxy: Object.fromEntries(Object.entries(env).filter(([name]) => /^(https?|no)_proxy$/i.test(name))),
    webIdentityTokenPath: values.WEB_IDENTITY_TOKEN_PATH,
    roleTokenDir: values.ROLE_TOKEN_DIR,
    roleTokenSeconds: values.ROLE_TOKEN_SECONDS,
    trustPolicyMaxChars: values.TRUST_POLICY_MAX_CHARS,
    iamReadsPerSecond: values.IAM_READS_PER_SECOND,
    iamWritesPerSecond: values.IAM_WRITES_PER_SECOND,
    grantTimeoutSeconds: values.GRANT_TIMEOUT_SECONDS,
    resyncSeconds: values.RESYNC_SECONDS,
    rateLimitPerMinute: values.RATE_LIMIT_PER_MINUTE,
    maxConnections: values.MAX_CONNECTIONS,
    trustedProxies: values.TRUSTED_PROXIES,
    leaseSeconds: values.LEASE_SECONDS,
    earlierDeployment: values.EARLIER_DEPLOYMENT,
    ...(values.DEPLOYMENT_NAME === undefined ? {} : { deployment: values.DEPLOYMENT_NAME }),
    consoleEnabled: values.CONSOLE_ENABLED,
    ...(values.CONSOLE_CLIENT_ID === undefined ? {} : { consoleClientId: values.CONSOLE_CLIENT_ID }),
    ...(values.RUNBOOK_URL === undefined ? {} : { runbookUrl: values.RUNBOOK_URL }),
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
