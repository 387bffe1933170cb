/** Owns a pod whose roles the AWS stand-in knows, and whose sidecar holds the sessions (IRSA_CREDENTIALS=process). */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SidecarOptions } from '../../src/sidecar/keeper.ts';
import { type AwsStandIn, startAws } from '../stack/aws.ts';
import { createIssuer } from '../stack/issuer.ts';
import { ShiftedClock } from '../support/clock.ts';
import { assetAccount, clusterAccount, proxyTrust, targetTrust } from '../support/roles.ts';
import { account, configText, type Pod, startPod } from './support.ts';

export interface AwsPod {
  readonly pod: Pod;
  readonly aws: AwsStandIn;
  readonly clock: ShiftedClock;
  /** The folder of the sessions. */
  readonly folder: string;
  start(settings?: Record<string, string>, options?: Partial<SidecarOptions>): ReturnType<Pod['start']>;
  /** Sets whether the proxy role's trust policy admits the run, from now on. */
  setAccess(name: string, open: boolean): void;
  /** Runs the `credential_process` of a profile, as a tool does. */
  runProfile(name: string): { status: number | null; stdout: string; stderr: string };
  /** The content of the session's file; undefined when there is none. */
  session(name: string): Record<string, unknown> | undefined;
  stop(): Promise<void>;
}

/** @param names of target roles, each with its own proxy role; the service's config file has them all. */
export async function startAwsPod(names: readonly string[]): Promise<AwsPod> {
  const clock = new ShiftedClock();
  const pod = await startPod();
  const aws = await startAws({ clock });
  const issuer = await createIssuer();
  aws.trustIssuer(issuer.issuer, issuer.jwks);
  const folder = join(pod.folder, 'sessions');
  const trust = (subject: string) => proxyTrust(issuer.issuer, `*:domino-compute:${subject}`);
  for (const name of names) {
    aws.addRole({ name, trust: trust(account) });
    aws.addRole({ account: assetAccount, name, trust: targetTrust(`arn:aws:iam::${clusterAccount}:role/${name}`) });
  }
  pod.service.always = { text: configText(names) };
  pod.put('token', await issuer.podToken({ serviceAccount: account, now: clock.now(), expiresInSeconds: 86_400 }));
  const settings = {
    AWS_ENDPOINT_URL_STS: aws.url,
    IRSA_PROVE: 'true',
    IRSA_CREDENTIALS: 'process',
    IRSA_CREDENTIALS_DIR: folder,
  };
  return {
    pod,
    aws,
    clock,
    folder,
    start: (more = {}, options = {}) => pod.start({ ...settings, ...more }, { clock, ...options }),
    setAccess: (name, open) => aws.setTrust(clusterAccount, name, trust(open ? account : 'run-nobody')),
    runProfile: (name) => {
      const section = (pod.config() ?? '').split(`[profile ${name}]\n`)[1] ?? '';
      const command = /^credential_process = (.*)$/m.exec(section)?.[1] ?? `sh ${folder}/session ${name}`;
      return spawnSync('sh', ['-c', command], { encoding: 'utf8' });
    },
    session: (name) => {
      try {
        return JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
      } catch {
        return undefined;
      }
    },
    stop: async () => {
      await pod.stop();
      await aws.close();
    },
  };
}
