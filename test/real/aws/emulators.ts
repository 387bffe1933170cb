/** Owns the AWS emulators of others: how each is started, and what it is known to do unlike AWS. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild } from '../../stack/process.ts';
import { until } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { pythonTool } from '../tools.ts';

export interface Emulator {
  readonly name: string;
  /** Pinned, as pip takes it. */
  readonly requirements: readonly string[];
  /** The oldest Python 3 that it runs on; 9 unless told. */
  readonly minor?: number;
  command(port: number): { program: string; args: string[]; environment: Record<string, string> };
  /**
   * `token audience`: judges web identities, but matches no token whose `aud` is a list, as Kubernetes' always is. `refuses all`:
   * matches no OIDC provider by its ARN.
   */
  readonly judgesTrust: 'no' | 'token audience' | 'refuses all';
  /** Holds trust policies to the grammar of policies: an element that does not exist is refused. */
  readonly judgesGrammar: boolean;
  /** Has Pod Identity associations. */
  readonly podIdentity: boolean;
}

/** Versions of November 2026. None of them judges the size of a trust policy. */
export const emulators: readonly Emulator[] = [
  {
    name: 'moto',
    requirements: ['moto[server]==5.2.1'],
    command: (port) => ({
      program: 'moto_server',
      args: ['--host', '127.0.0.1', '--port', String(port)],
      environment: { MOTO_ACCOUNT_ID: '111111111111' },
    }),
    judgesTrust: 'no',
    judgesGrammar: true,
    podIdentity: false,
  },
  {
    name: 'ministack',
    requirements: ['ministack==1.5.33'],
    command: (port) => ({
      program: 'ministack',
      args: [],
      environment: { AUTH: 'true', BIND_HOST: '127.0.0.1', GATEWAY_PORT: String(port) },
    }),
    judgesTrust: 'token audience',
    judgesGrammar: false,
    podIdentity: true,
  },
  {
    name: 'localemu',
    requirements: ['localemu==1.3.2'],
    minor: 12,
    command: (port) => ({
      program: 'python',
      args: ['-m', 'localemu.runtime.main'],
      environment: {
        GATEWAY_LISTEN: `127.0.0.1:${port}`,
        LOCALEMU_VOLUME_DIR: mkdtempSync(join(tmpdir(), 'irsa-localemu-')),
      },
    }),
    judgesTrust: 'refuses all',
    judgesGrammar: true,
    podIdentity: false,
  },
];

/** The access key names the account for those that keep several. */
export const credentials = { AWS_ACCESS_KEY_ID: '111111111111', AWS_SECRET_ACCESS_KEY: 'test' };

/**
 * Starts an emulator, installed before, on a free port of this machine.
 * @throws Unavailable where it cannot be installed; Error with what it said where it does not answer within three minutes.
 */
export async function startEmulator(emulator: Emulator): Promise<{ url: string; stop(): Promise<void> }> {
  const bin = pythonTool(emulator.name, emulator.requirements, emulator.minor);
  const port = await freePort();
  const { program, args, environment } = emulator.command(port);
  const child = startChild(join(bin, program), args, { environment });
  const url = `http://127.0.0.1:${port}`;
  let ended = false;
  void child.exited.then(() => {
    ended = true;
  });
  const answers = () =>
    fetch(url).then(
      () => true,
      () => ended,
    );
  await until(answers, 180_000).catch(() => child.stop());
  if (ended) throw new Error(`${emulator.name} does not answer:\n${child.output.slice(-20).join('\n')}`);
  return { url, stop: () => child.stop() };
}

/** The AWS CLI in one version. @returns a PATH on which it comes first. */
export function pathWithAwsCli(): string {
  return `${pythonTool('aws-cli', ['awscli==1.45.11'])}:${process.env.PATH ?? ''}`;
}
