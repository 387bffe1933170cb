/**
 * Owns the AWS config file in the form that every tool supports: profiles that run a script for their session
 * (`credential_process`). The AWS SDK for C++, and so pyarrow and DuckDB, ignores `role_arn` with `source_profile`. Pure.
 */
import { crypto } from './builtins.ts';
import type { ParsedConfig, TargetProfile } from './profiles.ts';
import type { IssuedSession } from './sts.ts';

/** The script's name in the folder of the sessions. It has no ending, so no session's file has the same name. */
export const scriptName = 'session';

/** The form of the folder's name: SDKs give the command to a shell, and the CLI splits it at blanks and quotes. */
export const folderForm = /^(\/[A-Za-z0-9_.-]+)+$/;

const longestKey = 200;

/**
 * Turns a profile's name into a file's name that is also one word in a shell. config-form.ts allows `\w+=,.@/-` in a name, so only
 * the slash needs replacing, by a character that no name has. A name that is too long for a file is cut and ends in its hash.
 */
export function sessionKey(profile: string): string {
  const flat = profile.replaceAll('/', ':').replace(/[^\w+=,.@:-]/g, '');
  if (flat.length <= longestKey && flat.length === profile.length) return flat;
  return `${flat.slice(0, 100)}~${crypto.hash('sha256', profile)}`;
}

/** @param text the service's config file, from which `config` was read: its comments stay. @param folder the script's folder. */
export function processForm(text: string, config: ParsedConfig, folder: string): string {
  const lines = text.split(/\r?\n/);
  const first = lines.findIndex((line) => line.startsWith('['));
  const comments = (from: number, to?: number) => lines.slice(from, to).filter((line) => line.startsWith('#'));
  const end = first === -1 ? lines.length : first;
  const blocks = config.profiles.flatMap((profile) => section(profile, folder));
  return `${[...comments(0, end), ...blocks, ...comments(end)].join('\n')}\n`;
}

function section({ name, roleArn, region }: TargetProfile, folder: string): string[] {
  return [
    `[profile ${name}]`,
    `# ${roleArn}`,
    `credential_process = sh ${folder}/${scriptName} ${sessionKey(name)}`,
    ...(region === undefined ? [] : [`region = ${region}`]),
  ];
}

/** The format of https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html, on one line for the script. */
export function sessionJson({ accessKeyId, secretAccessKey, sessionToken, expiresAt }: IssuedSession): string {
  const Expiration = `${new Date(expiresAt).toISOString().slice(0, 19)}Z`;
  return `${JSON.stringify({
    Version: 1,
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    SessionToken: sessionToken,
    Expiration,
  })}\n`;
}

/**
 * The script that `credential_process` runs. It needs `sh` and `cat`. With `date`, it also reports a session that has expired, with a
 * clearer message than SDKs have. @param port the sidecar's.
 */
export function sessionScript(port: number): string {
  return `#!/bin/sh
# irsa-svc: prints the session of an AWS profile for credential_process, or says on stderr why there is none.
at=\${0%/*}/$1
tell() { printf '%s\\n' "irsa-svc: AWS profile $1: $2 Type: curl localhost:${port}/doctor" >&2; exit 1; }
if [ -e "$at.json" ] && ! [ -r "$at.json" ]; then
  tell "$1" "this process may not read its session, since it is not in the pod's group."
fi
if [ -r "$at.json" ] && IFS= read -r session < "$at.json"; then
  ends=\${session##*'"Expiration":"'} ends=\${ends%%'"'*}
  now=$(date -u +%Y-%m-%dT%H:%M:%SZ 2> /dev/null)
  if [ "$now" \\> "$ends" ] 2> /dev/null; then
    tell "$1" "its session ran out at $ends, and the sidecar did not renew it."
  fi
  printf '%s\\n' "$session"
  exit
fi
if [ -r "$at.why" ]; then
  cat "$at.why" >&2
  exit 1
fi
tell "$1" 'its session is not there yet, or there is no such profile any more.'
`;
}
