/**
 * Owns the sidecar's settings: their environment names, defaults and forms.
 *
 * They are checked by hand and not with zod, unlike the service's settings: builtins.ts says why.
 */
import { ConfigError } from '../lib/config-error.ts';
import { proxyEnvironment, proxyProblems } from '../lib/forward-proxy.ts';
import { regionForm } from './config-form.ts';
import { folderForm } from './process-form.ts';

export type SidecarConfig = Readonly<ReturnType<typeof readSettings>>;

/** Says what is wrong with a text, in the words `expected …`; undefined when it is valid. */
type Check = (text: string) => string | undefined;

const matching =
  (form: RegExp, expected: string): Check =>
  (text) =>
    form.test(text) ? undefined : expected;

const flag = matching(/^(true|false)$/i, 'expected true or false');
const path = matching(/^\/\S+$/, 'expected an absolute path without white space');
const form = matching(/^(process|chain)$/i, 'expected process or chain');
const folder = matching(folderForm, 'expected an absolute path of letters, digits, dots, hyphens and underscores');
const pod = matching(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, 'expected the name of a Kubernetes pod');
const region = matching(regionForm, 'expected the name of an AWS region: us-west-2');
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
 * @throws ConfigError that lists every problem at once.
 */
export function loadSidecarConfig(env: Readonly<Record<string, string | undefined>>): SidecarConfig {
  const problems: string[] = [];
  const config = readSettings(env, problems);
  if (config.once && config.roleTokenDir !== undefined) {
    problems.push('ROLE_TOKEN_DIR: role tokens need a sidecar that goes on, to renew them; not with IRSA_ONCE=true');
  }
  if (config.defaultCredentials && config.credentials === 'chain') {
    problems.push('IRSA_DEFAULT_CREDENTIALS: there are sessions to serve only with IRSA_CREDENTIALS=process');
  }
  if (config.once && config.credentials === 'process') {
    problems.push(
      'IRSA_CREDENTIALS: process needs a sidecar that goes on, to renew sessions; with IRSA_ONCE=true only chain',
    );
  }
  if (config.prove || config.credentials === 'process') problems.push(...proxyProblems(env));
  // The bearer token must not cross the cluster without TLS unless a person chose that.
  if (config.tlsVerify && url(config.endpoint) === undefined && isClear(new URL(config.endpoint))) {
    problems.push('DOMINO_IRSA_ENDPOINT: expected https; http to another machine needs IRSA_TLS_VERIFY=false');
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

/** @param problems receives what is wrong with a setting alone. */
function readSettings(env: Readonly<Record<string, string | undefined>>, problems: string[]) {
  function optional(name: string, check?: Check): string | undefined {
    const text = env[name] || undefined;
    const problem = text === undefined ? undefined : check?.(text);
    if (problem !== undefined) problems.push(`${name}: ${problem}`);
    return text;
  }
  const read = (name: string, otherwise: string, check: Check) => optional(name, check) ?? otherwise;
  const isSet = (name: string, otherwise: boolean) => /^true$/i.test(read(name, String(otherwise), flag));

  return {
    /** The downward API's file of pod labels. */
    podInfoPath: read('POD_INFO_PATH', '/var/run/podinfo/labels', path),
    runId: optional('DOMINO_RUN_ID'),
    /** The URL of Domino's proxy in the workload, without a slash at the end. */
    apiProxy: read('DOMINO_API_PROXY', 'http://localhost:8899', url).replace(/\/+$/, ''),
    endpoint: read('DOMINO_IRSA_ENDPOINT', 'https://irsa-svc.domino-field/map_iam_roles_to_pod_sa', url),
    /** A CA or certificate to trust beside the system's. */
    certFile: optional('DOMINO_IRSA_SSL_CERT', path),
    tlsVerify: isSet('IRSA_TLS_VERIFY', true),
    requestTimeoutMs: 1000 * Number(read('IRSA_REQUEST_TIMEOUT_SECONDS', '60', whole(1, 300))),
    configFile: read('AWS_CONFIG_FILE', '/var/run/.aws/config', path),
    tokenFile: read('AWS_WEB_IDENTITY_TOKEN_FILE', '/var/run/secrets/eks.amazonaws.com/serviceaccount/token', path),
    /** The folder of the role tokens, in memory; where it is undefined, the sidecar requests no role tokens. */
    roleTokenDir: optional('ROLE_TOKEN_DIR', folder),
    podName: optional('POD_NAME', pod) ?? env.HOSTNAME ?? '',
    /** `chain`: profiles name roles, and each tool calls STS. `process`: the sidecar calls STS, and profiles run a script. */
    credentials: /^process$/i.test(read('IRSA_CREDENTIALS', 'chain', form)) ? ('process' as const) : ('chain' as const),
    /** The folder of the sessions, where `credentials` is `process`; in memory, since sessions must not reach a disk. */
    credentialsDir: read('IRSA_CREDENTIALS_DIR', '/var/run/irsa-credentials', folder),
    /** Whether code that names no profile gets the session of the default profile. */
    defaultCredentials: isSet('IRSA_DEFAULT_CREDENTIALS', false),
    /** The region of profiles that name none. */
    region: optional('AWS_REGION', region) ?? optional('AWS_DEFAULT_REGION', region),
    /** The STS to call in place of the regional one. The names and their order are the AWS SDKs' own. */
    stsEndpoint: optional('AWS_ENDPOINT_URL_STS', url) ?? optional('AWS_ENDPOINT_URL', url),
    /** The forward proxy for STS. */
    proxyEnv: proxyEnvironment(env),
    prove: isSet('IRSA_PROVE', true),
    /** How often the sidecar asks AWS whether a proved profile still works; 0 is off. */
    recheckMs: 1000 * Number(read('IRSA_RECHECK_SECONDS', '60', whole(0, 3600))),
    port: Number(read('IRSA_SIDECAR_PORT', '6003', whole(0, 65_535))),
    /** The interval of rounds; 0 is off. */
    refreshMs: 1000 * Number(read('IRSA_REFRESH_SECONDS', '900', whole(0, 86_400))),
    once: isSet('IRSA_ONCE', false),
    onceTimeoutMs: 1000 * Number(read('IRSA_ONCE_TIMEOUT_SECONDS', '120', whole(1, 3600))),
    logFile: optional('IRSA_LOG_FILE', path),
    logFileMaxBytes: 1024 * Number(read('IRSA_LOG_FILE_MAX_KB', '1024', whole(16, 1_048_576))),
    logLevel: read('LOG_LEVEL', 'info', level),
  };
}

function isClear({ protocol, hostname }: URL): boolean {
  return protocol === 'http:' && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
}
