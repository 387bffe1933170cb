/**
 * Owns a real control plane on loopback: etcd and kube-apiserver, built from their Go modules, over TLS and HTTP/2 with RBAC.
 * No controllers and no nodes run, so nothing is garbage-collected and no pod starts: tests do what they need of that.
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { JSONWebKeySet } from 'jose';
import { makeCertificate } from '../../stack/certificates.ts';
import { call, type RawAnswer } from '../../stack/kubernetes-raw.ts';
import { type Child, startChild } from '../../stack/process.ts';
import { startTcpGate, type TcpGate } from '../../stack/tcp-gate.ts';
import { until } from '../../support/clock.ts';
import { freePort } from '../../support/free-port.ts';
import { goPrograms } from '../tools.ts';
import { startClearProxy } from './clear-proxy.ts';

/** As the go.mod beside this file has them. */
export const versions = { 'kube-apiserver': '1.36.3', etcd: '3.6.13' };

export interface RealCluster {
  /** Without TLS, as an administrator, never silent. */
  readonly url: string;
  /** Without `https://`, as condition keys and provider ARNs have it. */
  readonly issuer: string;
  /** The gate that the replicas' connections pass. */
  readonly gate: TcpGate;
  /** A kubeconfig as JSON for clients that come through the gate with this file's token, read anew as in a pod. */
  kubeconfig(tokenFile: string): string;
  /** A kubeconfig of the administrator, past the gate, for helm and kubectl. */
  readonly adminKubeconfig: string;
  /** Calls as the administrator. @throws Error for a refusal, with the API server's words. */
  must(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<RawAnswer['body']>;
  jwks(): Promise<JSONWebKeySet>;
  /** Ends the API server with this signal and starts it again, with more flags from then on. @param meanwhile while it is down. */
  restart(options?: { signal?: NodeJS.Signals; flags?: string[]; meanwhile?: () => Promise<void> }): Promise<void>;
  /** Stops a program without ending it. @returns what lets it go on. */
  freeze(program: 'etcd' | 'kube-apiserver'): () => void;
  /** Makes etcd forget all versions but the newest. */
  compact(): Promise<void>;
  /** From now on the API server signs with a new key and takes no token of the old one. */
  replaceSigningKey(): Promise<void>;
  stop(): Promise<void>;
}

const issuer = 'oidc.eks.us-west-2.amazonaws.com/id/EXAMPLED539D4633E53DE1B71EXAMPLE';
const startMs = 180_000;

/** @throws Unavailable where the programs cannot be obtained. */
export async function startRealCluster(flags: readonly string[] = []): Promise<RealCluster> {
  const [major, minor] = versions['kube-apiserver'].split('.');
  // Helm asks for it, and a chart may be for some versions only.
  const stamped = { gitVersion: `v${versions['kube-apiserver']}`, gitMajor: major, gitMinor: minor };
  const linking = Object.entries(stamped).map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`);
  const packages = {
    etcd: 'go.etcd.io/etcd/server/v3',
    'kube-apiserver': 'k8s.io/kubernetes/cmd/kube-apiserver',
  };
  const programs = goPrograms('kubernetes', import.meta.dirname, packages, linking.join(' '));
  const folder = mkdtempSync(join(tmpdir(), 'irsa-kube-'));
  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()];
  const tls = makeCertificate();
  const adminToken = randomUUID();
  const signingKey = () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    file('sa.key', String(privateKey.export({ type: 'pkcs8', format: 'pem' })));
    file('sa.pub', String(publicKey.export({ type: 'spki', format: 'pem' })));
  };
  signingKey();
  const more = [...flags];
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const etcd = startChild(join(programs, 'etcd'), [
    `--data-dir=${join(folder, 'etcd')}`,
    '--unsafe-no-fsync',
    '--log-level=error',
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
  ]);
  const serverFlags = [
    `--etcd-servers=${etcdUrl}`,
    '--bind-address=127.0.0.1',
    `--secure-port=${port}`,
    '--endpoint-reconciler-type=none',
    `--tls-cert-file=${file('tls.crt', tls.cert)}`,
    `--tls-private-key-file=${file('tls.key', tls.key)}`,
    '--authorization-mode=Node,RBAC',
    `--token-auth-file=${file('tokens.csv', `${adminToken},admin,admin,"system:masters"\n`)}`,
    `--service-account-issuer=https://${issuer}`,
    `--service-account-signing-key-file=${join(folder, 'sa.key')}`,
    `--service-account-key-file=${join(folder, 'sa.pub')}`,
    '--api-audiences=https://kubernetes.default.svc',
    '--service-cluster-ip-range=10.96.0.0/16',
    // Tests say when.
    '--etcd-compaction-interval=0',
    '--profiling=false',
  ];
  const startServer = () => startChild(join(programs, 'kube-apiserver'), [...serverFlags, ...more]);
  let server: Child = startServer();
  const gate = await startTcpGate(port);
  const clear = await startClearProxy(port, tls.cert, adminToken);
  const url = clear.url;
  const ready = async () => {
    let last = '';
    const isReady = async () => {
      const answer = await fetch(`${url}/readyz`).catch((error: unknown) => {
        last = String(error);
        return undefined;
      });
      return answer?.ok === true;
    };
    await until(isReady, startMs).catch(() => {
      throw new Error([`the API server is not ready: ${last}`, ...server.output.slice(-20)].join('\n'));
    });
  };

  const must: RealCluster['must'] = async (method, path, body, headers) => {
    const answer = await call(url + path, method, body, headers);
    if (answer.code >= 300) throw new Error(`${method} ${path}: ${answer.code} ${answer.body.message}`);
    return answer.body;
  };
  const restart: RealCluster['restart'] = async ({ signal = 'SIGTERM', flags: added = [], meanwhile } = {}) => {
    more.push(...added);
    server.kill(signal);
    await server.exited;
    await meanwhile?.();
    server = startServer();
    await ready();
  };
  const kubeconfig = (at: number, user: object) => {
    const cluster = { server: `https://127.0.0.1:${at}`, 'certificate-authority-data': base64(tls.cert) };
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'real', cluster }],
      users: [{ name: 'real', user }],
      contexts: [{ name: 'real', context: { cluster: 'real', user: 'real', namespace: 'domino-field' } }],
      'current-context': 'real',
    });
  };
  const cluster: RealCluster = {
    url,
    issuer,
    gate,
    // As client-node's `loadFromCluster` has it.
    kubeconfig: (tokenFile) => kubeconfig(gate.port, { 'auth-provider': { name: 'tokenFile', config: { tokenFile } } }),
    adminKubeconfig: file('admin.kubeconfig', kubeconfig(port, { token: adminToken })),
    must,
    jwks: async () => (await must('GET', '/openid/v1/jwks')) as unknown as JSONWebKeySet,
    restart,
    freeze: (program) => {
      const child = program === 'etcd' ? etcd : server;
      child.kill('SIGSTOP');
      return () => child.kill('SIGCONT');
    },
    compact: async () => {
      const post = async (path: string, body: object) => {
        const answer = await fetch(`${etcdUrl}/v3/kv/${path}`, { method: 'POST', body: JSON.stringify(body) });
        if (!answer.ok) throw new Error(`etcd ${path}: ${await answer.text()}`);
        return (await answer.json()) as { header: { revision: string } };
      };
      const { header } = await post('range', { key: base64('compact'), limit: 1 });
      await post('compaction', { revision: header.revision, physical: true });
    },
    replaceSigningKey: () => restart({ meanwhile: async () => signingKey() }),
    stop: async () => {
      server.kill('SIGKILL');
      etcd.kill('SIGKILL');
      await Promise.all([server.exited, etcd.exited, gate.close(), clear.close()]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  try {
    await ready();
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return cluster;
}

const base64 = (text: string) => Buffer.from(text).toString('base64');
