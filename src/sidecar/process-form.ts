/**
 * Owns the AWS config file in the form that every tool reads: profiles that run a script for their session
 * (`credential_process`). The AWS SDK for C++, and so pyarrow and DuckDB, passes over `role_arn` with `source_profile`. Pure.
 */
import { crypto } from './builtins.ts';
import type { ParsedConfig, TargetProfile } from './profiles.ts';
import type { IssuedSession } from './sts.ts';

/** The script's name in the folder of the sessions. It has no ending, and all sessions have one. */
export const scriptName = 'session';

/** What the folder's name may be: SDKs give the command to a shell, and the CLI splits it at blanks and quotes. */
export const folderForm = /^(\/[A-Za-z0-9_.-]+)+$/;

const longestKey = 200;

/**
 * A profile's name as a file's name and a shell's word. config-form.ts lets `\w+=,.@/-` into a name, so the slash alone has to
 * go, into a character that no name has; a name that is too long for a file ends in its hash.
 */
export function sessionKey(profile: string): string {
  const flat = profile.replaceAll('/', ':').replace(/[^\w+=,.@:-]/g, '');
  if (flat.length <= longestKey && flat.length === profile.length) return flat;
  return `${flat.slice(0, 100)}~${crypto.createHash('sha256').update(profile).digest('hex')}`;
}

/** @param text the service's, which `config` was read from: its comments stay. @param folder of the script. */
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

/** https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html. On one line, which the script reads. */
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
 * The script behind `credential_process`. It needs `sh` and `cat`; where there is `date`, it finds out that a session has
 * run out, which SDKs report less well. @param port the sidecar's.
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
