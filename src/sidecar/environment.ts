/**
 * Owns the check of a process's environment: which credentials an AWS SDK would use, and what keeps it from using a profile. Pure.
 * The order is the SDKs' own: https://docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html
 */
import { oneLine } from './failure.ts';

export interface Finding {
  readonly code: string;
  /** `problem`: an SDK would not use the credentials that a person expects. */
  readonly level: 'ok' | 'problem';
  readonly message: string;
  readonly what_to_do: string;
}

export interface Surroundings {
  readonly configFile: string;
  readonly profiles: readonly string[];
  /** The config file's text, as it is on disk. */
  readonly configText: string | undefined;
}

/** @param text lines of `NAME=value`, as `env` prints them. @returns only the AWS variables, without the values of keys. */
export function readEnvironment(text: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    const name = line.slice(0, at);
    // For most variables the name is enough, and a value may be a secret.
    if (/^AWS_[A-Z0-9_]+$/.test(name)) found.set(name, shown.has(name) ? oneLine(line.slice(at + 1), 200) : '');
  }
  return found;
}

const shown = new Set(['AWS_PROFILE', 'AWS_DEFAULT_PROFILE', 'AWS_CONFIG_FILE', 'AWS_REGION', 'AWS_DEFAULT_REGION']);

/** Findings about the config file, which do not depend on the environment. */
export function fileFindings({ configFile, configText }: Surroundings): Finding[] {
  if (configText === undefined) {
    return [
      problem('no_config_file', `There is no ${configFile}.`, 'Wait for the first round, or see the last error.'),
    ];
  }
  if (!/^\[default\]/m.test(configText)) return [];
  const what = `${configFile} has a [default] that the sidecar did not write: code without a profile uses it.`;
  return [problem('default_section', what, 'Type: curl localhost:6003/refresh')];
}

/** Findings in the order in which an SDK looks for credentials. */
export function environmentFindings(env: ReadonlyMap<string, string>, around: Surroundings): Finding[] {
  const profile = env.get('AWS_PROFILE') ?? env.get('AWS_DEFAULT_PROFILE');
  return [
    ...keyFindings(env, profile),
    ...tokenFindings(env, profile),
    ...configFindings(env, around),
    ...profileFindings(env, profile, around),
  ];
}

function keyFindings(env: ReadonlyMap<string, string>, profile: string | undefined): Finding[] {
  if (!env.has('AWS_ACCESS_KEY_ID')) return [];
  const what = profile === undefined ? 'they are used' : 'most tools use them, and not AWS_PROFILE';
  return [problem('keys', `AWS_ACCESS_KEY_ID is set: ${what}.`, `Type: unset ${keys}`)];
}
const keys = 'AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN';

function tokenFindings(env: ReadonlyMap<string, string>, profile: string | undefined): Finding[] {
  if (!env.has('AWS_WEB_IDENTITY_TOKEN_FILE') || env.has('AWS_ROLE_ARN')) return [];
  const what =
    profile === undefined
      ? 'boto3 and the AWS CLI have no default credentials then'
      : 'tools of the SDK for Go (rclone, s5cmd, terraform) fail with "role ARN is not set"';
  const message = `AWS_WEB_IDENTITY_TOKEN_FILE is set without AWS_ROLE_ARN: ${what}.`;
  return [problem('token_variable', message, 'Type: unset AWS_WEB_IDENTITY_TOKEN_FILE')];
}

function configFindings(env: ReadonlyMap<string, string>, { configFile }: Surroundings): Finding[] {
  const file = env.get('AWS_CONFIG_FILE');
  if (file === configFile) return [];
  const message = file === undefined ? 'AWS_CONFIG_FILE is not set' : `AWS_CONFIG_FILE is ${file}`;
  return [
    problem('config_file', `${message}: your profiles are not found.`, `Type: export AWS_CONFIG_FILE=${configFile}`),
  ];
}

function profileFindings(
  env: ReadonlyMap<string, string>,
  profile: string | undefined,
  { profiles }: Surroundings,
): Finding[] {
  const [first = '<profile>'] = profiles;
  if (profile !== undefined && !profiles.includes(profile)) {
    const listed = profiles.slice(0, 20).join(', ') || 'none';
    return [
      problem(
        'unknown_profile',
        `AWS_PROFILE is ${profile}, and your profiles are: ${listed}.`,
        `Type: export AWS_PROFILE=${first}`,
      ),
    ];
  }
  if (profile !== undefined) return [fine('profile', `AWS_PROFILE is ${profile}: tools use it.`)];
  if (env.has('AWS_ROLE_ARN'))
    return [fine('web_identity', 'AWS_ROLE_ARN is set: code without a profile uses that role.')];
  if (env.has('AWS_CONTAINER_CREDENTIALS_FULL_URI')) {
    return [fine('container', 'Code without a profile uses the container credentials of this workload.')];
  }
  const message = 'AWS_PROFILE is not set: code that names no profile has no credentials.';
  return [problem('no_profile', message, `Name a profile in your code, or type: export AWS_PROFILE=${first}`)];
}

const problem = (code: string, message: string, what_to_do: string): Finding => ({
  code,
  level: 'problem',
  message,
  what_to_do,
});
const fine = (code: string, message: string): Finding => ({ code, level: 'ok', message, what_to_do: 'Nothing.' });
