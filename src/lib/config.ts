/** Owns the configuration: it checks the settings in the environment and gives them the names that the code uses. */
import type { z } from 'zod';
import { ConfigError } from './config-error.ts';
import { proxyEnvironment, proxyProblems } from './forward-proxy.ts';
import { settings } from './settings.ts';

/** The checked settings; settings.ts describes each. Units are in the names; paths and URLs are as given. */
export type Config = ReturnType<typeof loadConfig>;

/**
 * Reads the settings.
 * @param env the environment; an empty string counts as not set, since Helm and Compose write one for "nothing".
 * @returns all settings, frozen.
 * @throws ConfigError that lists all problems, so that they can be fixed at once.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>>) {
  const given = Object.fromEntries(Object.entries(env).filter(([, value]) => value !== undefined && value !== ''));
  const parsed = settings.safeParse(given);
  const problems = parsed.success ? [] : problemsOf(parsed.error, given);
  problems.push(...portProblems(given), ...proxyProblems(env));
  if (!parsed.success || problems.length > 0) throw new ConfigError(problems);
  const values = parsed.data;
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
    // Without it there is no Pod Identity.
    ...(values.EKS_CLUSTER_NAME === undefined ? {} : { eksCluster: values.EKS_CLUSTER_NAME }),
    awsRegion: values.AWS_REGION,
    // The service's own role, which EKS's webhook sets, for messages about calls that AWS refuses.
    ...(given.AWS_ROLE_ARN === undefined ? {} : { ownRole: given.AWS_ROLE_ARN }),
    // For calls to AWS.
    awsProxy: proxyEnvironment(env),
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
    // For Express' `trust proxy`: how many hops, or addresses and CIDRs.
    trustedProxies: values.TRUSTED_PROXIES,
    leaseSeconds: values.LEASE_SECONDS,
    earlierDeployment: values.EARLIER_DEPLOYMENT,
    // Without it the number of replicas is unknown.
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

/** Also where other settings are wrong, so that all problems are listed at once. */
function portProblems(given: Record<string, unknown>): string[] {
  const port = settings.shape.PORT.safeParse(given.PORT).data;
  const isShared =
    port !== 0 &&
    port !== undefined &&
    port === settings.shape.PROMETHEUS_METRICS_PORT.safeParse(given.PROMETHEUS_METRICS_PORT).data;
  return isShared ? ['PROMETHEUS_METRICS_PORT: expected another port than PORT'] : [];
}

/** One line for each problem, in the order of `settings`: `NAME: [required, ]expected …`. */
function problemsOf(error: z.ZodError, given: Record<string, unknown>): string[] {
  return error.issues.map((issue) => {
    const name = String(issue.path[0]);
    return `${name}: ${name in given ? '' : 'required, '}${issue.message}`;
  });
}
