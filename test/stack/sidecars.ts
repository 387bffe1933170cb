/** Owns a sidecar in a separate process for a run: with the files of the run's pod, and Domino's token proxy. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Child, startChild } from './process.ts';
import type { StackProcess } from './processes.ts';
import { startServer } from './server.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: { sidecar: string } };

/** The program that `npm run sidecar` starts. */
export const sidecarCommand = scripts.sidecar;

/** The paths of the pod's volumes. */
export interface PodFiles {
  /** The downward API's file of labels. */
  readonly labels: string;
  /** The web identity token. */
  readonly token: string;
  /** The AWS config file, which the sidecar writes. */
  readonly config: string;
}

export interface SidecarProcess {
  readonly child: Child;
  /** `localhost:<port>`; in a cluster it is `localhost:6003`. */
  readonly host: string;
  readonly url: string;
  /** Ends the sidecar and the token proxy. @returns the sidecar's exit code. */
  stop(): Promise<number | null>;
}

export interface SidecarOptions {
  /** The user who started the run. */
  readonly user: string;
  readonly files: PodFiles;
  /** The service's HTTPS address, without a path. */
  readonly service: string;
  /** A file with the certificate to trust. */
  readonly certificate: string;
  readonly settings?: Readonly<Record<string, string>>;
}

export function podFiles(folder: string): PodFiles {
  return { labels: join(folder, 'labels'), token: join(folder, 'token'), config: join(folder, 'config') };
}

/** Writes the labels and the web identity token into the pod's volumes, as the kubelet does. */
export async function fillPod(stack: StackProcess, files: PodFiles, run: string): Promise<void> {
  const labels = { 'app.kubernetes.io/name': `run-${run}`, 'dominodatalab.com/execution-id': run };
  const lines = Object.entries(labels).map(([name, value]) => `${name}=${JSON.stringify(value)}\n`);
  writeFileSync(files.labels, lines.join(''));
  writeFileSync(files.token, await stack.order('pod-token', { serviceAccount: `run-${run}` }));
}

/** Starts the built sidecar and waits until it listens. */
export async function startSidecarProcess(stack: StackProcess, options: SidecarOptions): Promise<SidecarProcess> {
  const { user, files, service, certificate, settings } = options;
  // Like Domino's, it gives every process in the pod a token of the run's owner, which is valid for five minutes.
  const proxy = await startServer(async (request, response) => {
    if (request.url !== '/access-token') return void response.writeHead(404).end();
    response.end(await stack.token(user, 300));
  });
  const environment = {
    POD_INFO_PATH: files.labels,
    DOMINO_API_PROXY: proxy.url,
    DOMINO_IRSA_ENDPOINT: `${service}/map_iam_roles_to_pod_sa`,
    DOMINO_IRSA_SSL_CERT: certificate,
    AWS_WEB_IDENTITY_TOKEN_FILE: files.token,
    AWS_CONFIG_FILE: files.config,
    // The address of AWS; in a cluster it is the region's own.
    AWS_ENDPOINT_URL_STS: stack.awsUrl,
    IRSA_SIDECAR_PORT: '0',
    ...settings,
  };
  const [, ...words] = sidecarCommand.split(' ');
  const child = startChild(process.execPath, words, { cwd: root, environment });
  void child.exited.then(() => proxy.close());
  const { port } = await child.line<{ port: number }>(({ msg }) => msg === 'listening');
  const host = `localhost:${port}`;
  return {
    child,
    host,
    url: `http://${host}`,
    stop: async () => {
      await child.stop(2_000);
      return child.exited;
    },
  };
}
