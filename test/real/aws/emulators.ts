/** Owns the third-party AWS emulators: how each is started, and how it is known to differ from AWS. */
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startChild } from '../../stack/process.ts';
import { until } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { cargoTool, pythonTool, Unavailable } from '../tools.ts';

/** An access key, as the SDK reads it from the environment. */
export interface AccessKey {
  readonly AWS_ACCESS_KEY_ID: string;
  readonly AWS_SECRET_ACCESS_KEY: string;
}

export interface Emulator {
  readonly name: string;
  readonly version: string;
  /** @returns the folder of its programs. @throws Unavailable where it cannot be installed. */
  install(): string;
  command(port: number): { program: string; args: string[]; environment: Record<string, string> };
  /**
   * `yes`: as AWS does. `token audience`: matches no token whose `aud` is a list, as Kubernetes' always is. `refuses all`: matches no
   * OIDC provider by its ARN.
   */
  readonly judgesTrust: 'yes' | 'no' | 'token audience' | 'refuses all';
  /** Holds trust policies to their quota. */
  readonly judgesSize: boolean;
  /** Takes `sts:TagSession` in a trust policy, as AWS does. */
  readonly takesTagSession: boolean;
  /** Holds trust policies to the grammar of policies: an element that does not exist is refused. */
  readonly judgesGrammar: boolean;
  /** Has Pod Identity associations. */
  readonly podIdentity: boolean;
  /** Checks signatures, and logs what a caller's policies do not allow. */
  readonly checksCallers: boolean;
  /** Set where it finds no condition key that has capitals, as EKS's issuers have. */
  readonly issuerName?: string;
}

/** Versions of November 2026. */
export const emulators: readonly Emulator[] = [
  {
    name: 'moto',
    version: '5.2.1',
    install: () => pythonTool('moto', ['moto[server]==5.2.1']),
    command: (port) => ({
      program: 'moto_server',
      args: ['--host', '127.0.0.1', '--port', String(port)],
      environment: { MOTO_ACCOUNT_ID: '111111111111' },
    }),
    judgesTrust: 'no',
    judgesSize: false,
    takesTagSession: true,
    judgesGrammar: true,
    podIdentity: false,
    checksCallers: false,
  },
  {
    name: 'ministack',
    version: '1.5.33',
    install: () => pythonTool('ministack', ['ministack==1.5.33']),
    command: (port) => ({
      program: 'ministack',
      args: [],
      environment: { AUTH: 'true', BIND_HOST: '127.0.0.1', GATEWAY_PORT: String(port) },
    }),
    judgesTrust: 'token audience',
    judgesSize: false,
    takesTagSession: true,
    judgesGrammar: false,
    podIdentity: true,
    checksCallers: false,
  },
  {
    name: 'localemu',
    version: '1.3.2',
    install: () => pythonTool('localemu', ['localemu==1.3.2'], 12),
    command: (port) => ({
      program: 'python',
      args: ['-m', 'localemu.runtime.main'],
      environment: {
        GATEWAY_LISTEN: `127.0.0.1:${port}`,
        LOCALEMU_VOLUME_DIR: mkdtempSync(join(tmpdir(), 'irsa-localemu-')),
      },
    }),
    judgesTrust: 'refuses all',
    judgesSize: false,
    takesTagSession: true,
    judgesGrammar: true,
    podIdentity: false,
    checksCallers: false,
  },
  {
    name: 'fakecloud',
    version: '0.51.0',
    install: () => {
      if (process.env.IRSA_FAKECLOUD !== '1')
        throw new Unavailable('its build takes long: IRSA_FAKECLOUD=1 has it built');
      return cargoTool('fakecloud', '0.51.0');
    },
    command: (port) => ({
      program: 'fakecloud',
      args: ['--addr', `127.0.0.1:${port}`, '--account-id', '111111111111', '--iam', 'soft'],
      environment: { FAKECLOUD_VERIFY_SIGV4: 'true', FAKECLOUD_ENFORCE_QUOTAS: 'true', FAKECLOUD_LOG: 'warn' },
    }),
    judgesTrust: 'yes',
    judgesSize: true,
    takesTagSession: false,
    judgesGrammar: false,
    podIdentity: false,
    checksCallers: true,
    issuerName: 'oidc.eks.us-west-2.amazonaws.com/id/0123456789012345',
  },
];

/** May do anything. The access key names the account for those that keep several; fakecloud knows `test` alone. */
export const rootKey = ({ checksCallers }: Emulator): AccessKey => ({
  AWS_ACCESS_KEY_ID: checksCallers ? 'test' : '111111111111',
  AWS_SECRET_ACCESS_KEY: 'test',
});

export interface RunningEmulator {
  readonly url: string;
  /** What it printed, in lines. */
  readonly output: readonly string[];
  stop(): Promise<void>;
}

/**
 * Starts an emulator, installed before, on a free port of this machine.
 * @throws Unavailable where it cannot be installed; Error with what it said where it does not answer within three minutes.
 */
export async function startEmulator(emulator: Emulator): Promise<RunningEmulator> {
  const bin = emulator.install();
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
  return { url, output: child.output, stop: () => child.stop() };
}

/** The AWS CLI in one version. @returns a PATH on which it comes first. */
export function pathWithAwsCli(): string {
  return `${pythonTool('aws-cli', ['awscli==1.45.11'])}:${process.env.PATH ?? ''}`;
}
