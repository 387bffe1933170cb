/**
 * Owns the side-car's settings: their environment names, defaults and forms.
 *
 * By hand and not with zod, as the service's are: builtins.ts says why.
 */

export interface SidecarConfig {
  /** The downward API's file of pod labels. */
  readonly podInfoPath: string;
  readonly runId: string | undefined;
  /** Domino's proxy in the workload, without a slash at the end. */
  readonly apiProxy: string;
  readonly endpoint: string;
  /** A CA or certificate to trust beside the system's. */
  readonly certFile: string | undefined;
  readonly tlsVerify: boolean;
  readonly requestTimeoutMs: number;
  readonly configFile: string;
  readonly tokenFile: string;
  /** For profiles that name no region. */
  readonly region: string | undefined;
  /** In place of the regional STS. */
  readonly stsEndpoint: string | undefined;
  readonly prove: boolean;
  readonly port: number;
  /** 0 is off. */
  readonly refreshMs: number;
  readonly once: boolean;
  readonly onceTimeoutMs: number;
  readonly logFile: string | undefined;
  readonly logFileMaxBytes: number;
  readonly logLevel: string;
}

/** The settings cannot be used. `message` names every problem, one a line, and no value. */
export class SettingsError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`${problems.length} setting(s) cannot be used:\n${problems.join('\n')}`);
    this.name = 'SettingsError';
    this.problems = problems;
  }
}

/** What is wrong with a text, in the words `expected …`; undefined when nothing is. */
type Check = (text: string) => string | undefined;

const matching =
  (form: RegExp, expected: string): Check =>
  (text) =>
    form.test(text) ? undefined : expected;

const flag = matching(/^(true|false)$/i, 'expected true or false');
const path = matching(/^\/\S+$/, 'expected an absolute path without white space');
const region = matching(/^[a-z]{2,5}(-[a-z]+)+-\d{1,2}$/, 'expected the name of an AWS region: us-west-2');
const level = matching(
  /^(fatal|error|warn|info|debug|trace|silent)$/,
  'expected one of fatal, error, warn, info, debug, trace, silent',
);

const url: Check = (text) => {
  const parsed = URL.canParse(text) ? new URL(text) : undefined;
  // A password in a URL would end up in logs and error messages.
  const plain = parsed && /^https?:$/.test(parsed.protocol) && !parsed.username && !parsed.password && !parsed.hash;
  return plain ? undefined : 'expected an http(s) URL without a user or password';
};

const whole =
  (minimum: number, maximum: number): Check =>
  (text) =>
    /^\d{1,9}$/.test(text) && Number(text) >= minimum && Number(text) <= maximum
      ? undefined
      : `expected a whole number from ${minimum} to ${maximum}`;

/**
 * Reads the settings.
 * @param env the environment; an empty string counts as not set, since Helm and Compose write those for "nothing".
 * @throws SettingsError that lists every problem at once.
 */
export function loadSidecarConfig(env: Readonly<Record<string, string | undefined>>): SidecarConfig {
  const problems: string[] = [];

  function optional(name: string, check?: Check): string | undefined {
    const text = env[name] || undefined;
    const problem = text === undefined ? undefined : check?.(text);
    if (problem !== undefined) problems.push(`${name}: ${problem}`);
    return text;
  }
  const read = (name: string, otherwise: string, check: Check) => optional(name, check) ?? otherwise;
  const isSet = (name: string, otherwise: boolean) => /^true$/i.test(read(name, String(otherwise), flag));

  const config: SidecarConfig = {
    podInfoPath: read('POD_INFO_PATH', '/var/run/podinfo/labels', path),
    runId: optional('DOMINO_RUN_ID'),
    apiProxy: read('DOMINO_API_PROXY', 'http://localhost:8899', url).replace(/\/+$/, ''),
    endpoint: read('DOMINO_IRSA_ENDPOINT', 'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa', url),
    certFile: optional('DOMINO_IRSA_SSL_CERT', path),
    tlsVerify: isSet('IRSA_TLS_VERIFY', true),
    requestTimeoutMs: 1000 * Number(read('IRSA_REQUEST_TIMEOUT_SECONDS', '60', whole(1, 300))),
    configFile: read('AWS_CONFIG_FILE', '/var/run/.aws/config', path),
    tokenFile: read('AWS_WEB_IDENTITY_TOKEN_FILE', '/var/run/secrets/eks.amazonaws.com/serviceaccount/token', path),
    region: optional('AWS_REGION', region) ?? optional('AWS_DEFAULT_REGION', region),
    // The names and their order are the AWS SDKs' own.
    stsEndpoint: optional('AWS_ENDPOINT_URL_STS', url) ?? optional('AWS_ENDPOINT_URL', url),
    prove: isSet('IRSA_PROVE', true),
    port: Number(read('IRSA_SIDECAR_PORT', '6003', whole(0, 65_535))),
    refreshMs: 1000 * Number(read('IRSA_REFRESH_SECONDS', '900', whole(0, 86_400))),
    once: isSet('IRSA_ONCE', false),
    onceTimeoutMs: 1000 * Number(read('IRSA_ONCE_TIMEOUT_SECONDS', '120', whole(1, 3600))),
    logFile: optional('IRSA_LOG_FILE', path),
    logFileMaxBytes: 1024 * Number(read('IRSA_LOG_FILE_MAX_KB', '1024', whole(16, 1_048_576))),
    logLevel: read('LOG_LEVEL', 'info', level),
  };

  // The bearer token must not cross the cluster in clear unless someone said so.
  if (config.tlsVerify && url(config.endpoint) === undefined && isClear(new URL(config.endpoint))) {
    problems.push('DOMINO_IRSA_ENDPOINT: expected https; http to another machine needs IRSA_TLS_VERIFY=false');
  }
  if (problems.length > 0) throw new SettingsError(problems);
  return Object.freeze(config);
}

function isClear({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
