/** Owns a whole system in separate processes: the stack, and replicas of the compiled service that use it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeCertificate } from './certificates.ts';
import type { Orders, StackAddresses } from './main.ts';
import { type Child, startChild } from './process.ts';

export { makeCertificate } from './certificates.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** The folders of running replicas, with their keys and kubeconfigs. */
const folders = new Set<string>();
const removeFolder = (folder: string) => {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
};
process.once('exit', () => folders.forEach(removeFolder));

/** Generous, since a start is not what is tested, and a cold or busy machine is slow. */
const startMs = 180_000;

/** The flags of `npm start` and the image. */
const nodeOptions = ['--max-semi-space-size=8', '--heap-growing-percent=40'];

export interface StackProcess extends StackAddresses {
  readonly child: Child;
  /** Sends an order to the stand-ins; see `orders` in main.ts. */
  order<Name extends keyof Orders>(
    name: Name,
    body: Parameters<Orders[Name]>[0],
  ): Promise<Awaited<ReturnType<Orders[Name]>>>;
  /** Sets a stand-in's knobs. */
  knobs(standIn: 'aws' | 'domino' | 'kubernetes', knobs: object): Promise<void>;
  /** A bearer token of a user that `add-user` made. */
  token(user: string, seconds?: number): Promise<string>;
  stop(): Promise<void>;
}

export interface ReplicaProcess {
  readonly child: Child;
  readonly url: string;
  readonly metricsUrl: string;
  /** The certificate in PEM that clients have to trust; undefined without TLS. */
  readonly ca: string | undefined;
  /** Replaces the certificate and its key on disk. @returns the new one, for clients to trust. @throws Error without TLS. */
  replaceCertificate(): string;
  /** Milliseconds from the process's start to its log line `ready`. */
  readonly ready: Promise<number>;
  stop(graceMs?: number): Promise<void>;
}

export interface ReplicaOptions {
  readonly settings?: Readonly<Record<string, string>>;
  /** HTTPS with this certificate, or with a new one for 127.0.0.1 and localhost. */
  readonly https?: boolean | ReturnType<typeof makeCertificate>;
  /** Options of Node itself: `--cpu-prof` and the like. */
  readonly nodeOptions?: readonly string[];
}

/** Builds the service into dist/, as `npm run build` does. @throws Error with the build's output. */
export async function buildService(): Promise<void> {
  const build = startChild(process.execPath, ['--import', 'tsx', 'build.ts'], { cwd: root });
  if ((await build.exited) !== 0) throw new Error(`the service does not build:\n${build.output.join('\n')}`);
}

export async function startStack(): Promise<StackProcess> {
  const child = startChild(process.execPath, ['--import', 'tsx', 'test/stack/main.ts'], { cwd: root });
  const addresses = await child.line<StackAddresses & Record<string, unknown>>((line) => 'controlUrl' in line, startMs);
  const urls = { aws: addresses.awsUrl, domino: addresses.dominoUrl, kubernetes: addresses.kubernetesUrl };
  return {
    ...addresses,
    child,
    order: (name, body) => post(`${addresses.controlUrl}/${name}`, body),
    knobs: async (standIn, knobs) => void (await post(`${urls[standIn]}/__stack/knobs`, knobs)),
    token: async (user, seconds = 3600) => {
      const query = new URLSearchParams({ user, seconds: String(seconds) });
      const response = await fetch(`${addresses.dominoUrl}/__stack/token?${query}`);
      if (!response.ok) throw new Error(`no token for ${user}: ${await response.text()}`);
      return response.text();
    },
    stop: () => child.stop(),
  };
}

/** Starts a replica of the built service and waits until it listens, by its log line at level info. */
export async function startReplica(
  stack: Pick<StackAddresses, 'environment' | 'kubeconfig'>,
  options: ReplicaOptions = {},
): Promise<ReplicaProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-'));
  folders.add(folder);
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const pair = options.https === true ? makeCertificate() : options.https || undefined;
  const tls = pair && { TLS_CERT_FILE: file('tls.crt', pair.cert), TLS_KEY_FILE: file('tls.key', pair.key) };
  const environment = {
    ...stack.environment,
    KUBECONFIG: file('kubeconfig', stack.kubeconfig),
    SSL_OFF: String(!pair),
    ...tls,
    PORT: '0',
    PROMETHEUS_METRICS_PORT: '0',
    ...options.settings,
  };
  const child = startChild(process.execPath, [...nodeOptions, ...(options.nodeOptions ?? []), 'dist/src/main.js'], {
    cwd: root,
    environment,
  });
  void child.exited.then(() => removeFolder(folder));
  const ready = child.line(({ msg }) => msg === 'ready', startMs).then(() => performance.now() - child.startedAt);
  ready.catch(() => undefined);
  const listening = await child.line<{ port: number; metrics_port: number }>(({ msg }) => msg === 'listening');
  return {
    child,
    url: `${pair ? 'https' : 'http'}://127.0.0.1:${listening.port}`,
    metricsUrl: `http://127.0.0.1:${listening.metrics_port}/metrics`,
    ca: pair?.cert,
    replaceCertificate: () => {
      if (!pair) throw new Error('this replica listens in clear');
      const next = makeCertificate();
      file('tls.key', next.key);
      file('tls.crt', next.cert);
      return next.cert;
    },
    ready,
    stop: (graceMs) => child.stop(graceMs),
  };
}

async function post<T>(url: string, body: unknown): Promise<T> {
  const headers = { 'content-type': 'application/json' };
  const response = await fetch(url, { method: 'POST', headers, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}
