/** Owns the real AWS clients that tests run as programs (boto3, the AWS CLI, the JS SDK), isolated from the user's own AWS. */
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { devNull, homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

export interface ProgramResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Exit code; 127 when the program could not be started. */
  readonly code: number;
}

const ROOT = join(import.meta.dirname, '..', '..');
const known = new Map<string, Promise<boolean>>();

/** The path of a command, as the shell would find it. */
export function which(command: string): string | undefined {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(folder, command);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** Whether this machine has a Python 3 with boto3. */
export function hasBoto3(): Promise<boolean> {
  return remember('boto3', 'python3', ['-c', 'import boto3']);
}

/** Whether an AWS CLI is there and starts: version managers leave stubs on the PATH that do not. */
export function hasAws(): Promise<boolean> {
  return remember('aws', 'aws', ['--version']);
}

/** Runs a Python program that may import boto3. */
export function runBoto3(script: string, env: Record<string, string>): Promise<ProgramResult> {
  return runProgram('python3', ['-c', script], env);
}

export function runAws(args: readonly string[], env: Record<string, string>): Promise<ProgramResult> {
  return runProgram('aws', args, env);
}

/** Runs an ES module that may import this project's dependencies. */
export function runNode(script: string, env: Record<string, string>): Promise<ProgramResult> {
  return runProgram(process.execPath, ['--input-type=module', '-e', script], env);
}

function remember(name: string, command: string, args: readonly string[]): Promise<boolean> {
  const found = known.get(name) ?? runProgram(command, args, {}).then(({ code }) => code === 0);
  known.set(name, found);
  return found;
}

/** Runs a program with this environment over the caller's, and a home folder of its own. */
export async function runProgram(
  command: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<ProgramResult> {
  // The AWS CLI keeps role sessions under the home folder by role and session name, and would use those of an earlier
  // stand-in; a home of its own for each run also leaves the caller's untouched.
  const home = await mkdtemp(join(tmpdir(), 'irsa-svc-home-'));
  try {
    return await spawned(command, args, cleanEnvironment(env, home));
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

function spawned(command: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<ProgramResult> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      stdout += chunk;
    });
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
      stderr += chunk;
    });
    child.on('error', (error) => resolve({ stdout, stderr: stderr + error.message, code: 127 }));
    child.on('close', (code) => resolve({ stdout, stderr, code: code ?? 1 }));
  });
}

/** The caller's environment without anything that could reach a real account, and with empty config files. */
function cleanEnvironment(env: Record<string, string>, home: string): NodeJS.ProcessEnv {
  // NODE_OPTIONS of the test run would slow the children down and mix into their output.
  const kept = Object.entries(process.env).filter(([name]) => !/^(AWS_|BOTO_|NODE_OPTIONS$)/.test(name));
  return {
    // Python must still find packages under the real home (pip install --user).
    PYTHONUSERBASE: join(homedir(), '.local'),
    ...Object.fromEntries(kept),
    HOME: home,
    AWS_CONFIG_FILE: devNull,
    AWS_SHARED_CREDENTIALS_FILE: devNull,
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_PAGER: '',
    ...env,
  };
}
