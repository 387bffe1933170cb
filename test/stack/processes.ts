/** Owns a whole system in processes of their own: the stack, and replicas of the compiled service against it. */
import { createHash, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Orders, StackAddresses } from './main.ts';
import { type Child, startChild } from './process.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** Of replicas that run, with their keys and kubeconfigs. */
const folders = new Set<string>();
const removeFolder = (folder: string) => {
  rmSync(folder, { recursive: true, force: true });
  folders.delete(folder);
};
process.once('exit', () => folders.forEach(removeFolder));

/** As in `npm start` and the image. */
const nodeOptions = ['--max-semi-space-size=4'];

export interface StackProcess extends StackAddresses {
  readonly child: Child;
  /** What the stand-ins offer in memory only; see `orders` in main.ts. */
  order<Name extends keyof Orders>(
    name: Name,
    body: Parameters<Orders[Name]>[0],
  ): Promise<Awaited<ReturnType<Orders[Name]>>>;
  /** Turns a stand-in's knobs. */
  knobs(standIn: 'aws' | 'domino' | 'kubernetes', knobs: object): Promise<void>;
  /** A bearer token of a user that `add-user` made. */
  token(user: string, seconds?: number): Promise<string>;
  stop(): Promise<void>;
}

export interface ReplicaProcess {
  readonly child: Child;
  readonly url: string;
  readonly metricsUrl: string;
  /** The certificate in PEM that clients are to trust; undefined in clear. */
  readonly ca: string | undefined;
  /** Replaces the certificate and its key on disk. @returns the new one, to be trusted. @throws Error in clear. */
  replaceCertificate(): string;
  /** Milliseconds from the process's start to its log line `ready`. */
  readonly ready: Promise<number>;
  stop(graceMs?: number): Promise<void>;
}

export interface ReplicaOptions {
  readonly settings?: Readonly<Record<string, string>>;
  /** HTTPS with a certificate made for it, for 127.0.0.1 and localhost. */
  readonly https?: boolean;
  /** Options of Node itself: `--cpu-prof` and the like. */
  readonly nodeOptions?: readonly string[];
}

/** Builds the service into dist/, as `npm run build` does. @throws Error with what went wrong. */
export async function buildService(): Promise<void> {
  const build = startChild(process.execPath, ['--import', 'tsx', 'build.ts'], { cwd: root });
  if ((await build.exited) !== 0) throw new Error(`the service does not build:\n${build.output.join('\n')}`);
}

export async function startStack(): Promise<StackProcess> {
  const child = startChild(process.execPath, ['--import', 'tsx', 'test/stack/main.ts'], { cwd: root });
  const addresses = await child.line<StackAddresses & Record<string, unknown>>((line) => 'controlUrl' in line);
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

/** Starts a replica and waits until it listens, as its log says at level info; it must have been built. */
export async function startReplica(stack: StackAddresses, options: ReplicaOptions = {}): Promise<ReplicaProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'irsa-svc-'));
  folders.add(folder);
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const pair = options.https ? makeCertificate() : undefined;
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
  const ready = child.line(({ msg }) => msg === 'ready', 60_000).then(() => performance.now() - child.startedAt);
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

/**
 * A certificate for 127.0.0.1 and localhost, signed by itself and good for two days, with its key: PEM both. Written as
 * DER by hand (RFC 5280 section 4.1), since Node makes keys and signatures but no certificates.
 */
export function makeCertificate(now = new Date()): { cert: string; key: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'prime256v1' });
  const subjectKey = publicKey.export({ type: 'spki', format: 'der' });
  const algorithm = der(0x30, der(0x06, Buffer.from('2a8648ce3d040302', 'hex')));
  // A name of its own: of two trusted certificates with one name, OpenSSL may try the wrong one.
  const commonName = Buffer.from(`irsa-svc stand-in ${randomUUID()}`);
  const name = der(0x30, der(0x31, der(0x30, oid('550403'), der(0x0c, commonName))));
  const time = (at: number) => der(0x17, Buffer.from(new Date(at).toISOString().replace(/^..|[-:T]|\.\d+/g, '')));
  const validity = der(0x30, time(now.getTime() - 3_600_000), time(now.getTime() + 2 * 86_400_000));
  const names = der(0x30, der(0x82, Buffer.from('localhost')), der(0x87, Buffer.from([127, 0, 0, 1])));
  const subjectNames = der(0x30, oid('551d11'), der(0x04, names));
  const basics = der(0x30, oid('551d13'), bool(true), der(0x04, der(0x30, bool(true))));
  const usage = der(0x30, oid('551d0f'), bool(true), der(0x04, der(0x03, Buffer.from([2, 0x84]))));
  const subjectKeyId = der(0x04, createHash('sha1').update(subjectKey).digest());
  const extensions = [basics, usage, der(0x30, oid('551d0e'), der(0x04, subjectKeyId)), subjectNames];
  const version = der(0xa0, der(0x02, Buffer.from([2])));
  const serial = der(0x02, Buffer.from(String(now.getTime())));
  const body = der(
    0x30,
    version,
    serial,
    algorithm,
    name,
    validity,
    name,
    subjectKey,
    der(0xa3, der(0x30, ...extensions)),
  );
  const signature = der(0x03, Buffer.from([0]), sign('sha256', body, privateKey));
  const text = der(0x30, body, algorithm, signature)
    .toString('base64')
    .replace(/.{64}(?!$)/g, '$&\n');
  const cert = `-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`;
  return { cert, key: String(privateKey.export({ type: 'pkcs8', format: 'pem' })) };
}

/** One DER value: tag, length, contents (ITU-T X.690 section 8.1). */
function der(tag: number, ...contents: Buffer[]): Buffer {
  const content = Buffer.concat(contents);
  const { length } = content;
  const size = length < 128 ? [length] : length < 256 ? [0x81, length] : [0x82, length >> 8, length & 255];
  return Buffer.concat([Buffer.from([tag, ...size]), content]);
}

const oid = (hex: string) => der(0x06, Buffer.from(hex, 'hex'));
const bool = (value: boolean) => der(0x01, Buffer.from([value ? 255 : 0]));
