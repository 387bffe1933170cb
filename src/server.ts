/** Owns the listening: HTTPS with certificates that are read again when they change, and a close that drains. */
import { existsSync, type FSWatcher, readFileSync, watch } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { Log } from './log.ts';

export interface Listening {
  port: number;
  /** Takes no new connection, lets requests under way end for so many milliseconds, then cuts. */
  drain(graceMs: number): Promise<void>;
}

export interface TlsFiles {
  certFile: string;
  keyFile: string;
  /** Told of each time the files were read again. */
  onReload: (outcome: 'ok' | 'failed') => void;
}

/** Listens in clear where no TLS files are given. @throws where the address or the certificate cannot be used. */
export async function listen(
  handler: RequestListener,
  address: { host: string; port: number },
  tls: TlsFiles | undefined,
  log: Log,
): Promise<Listening> {
  const server = tls ? createHttpsServer(readPair(tls), handler) : createHttpServer(handler);
  // Longer than load balancers keep theirs; short enough for slow senders not to hold what they never use.
  server.keepAliveTimeout = 65_000;
  server.headersTimeout = 10_000;
  server.requestTimeout = 30_000;
  const stopWatching = tls ? reloadOnChange(server as HttpsServer, tls, log) : () => undefined;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address.port, address.host, resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    drain: async (graceMs) => {
      stopWatching();
      await drain(server, graceMs);
    },
  };
}

function drain(server: Server | HttpsServer, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
    // A connection that was busy becomes idle, and its client would keep it open.
    const sweep = setInterval(() => server.closeIdleConnections(), 100);
    server.close(() => {
      clearTimeout(cut);
      clearInterval(sweep);
      resolve();
    });
    server.closeIdleConnections();
  });
}

function readPair({ certFile, keyFile }: TlsFiles): { cert: Buffer; key: Buffer; minVersion: 'TLSv1.2' } {
  const pair = { cert: readFileSync(certFile), key: readFileSync(keyFile), minVersion: 'TLSv1.2' as const };
  // Throws where the key does not belong to the certificate: halves of two pairs, read while they are replaced.
  createSecureContext(pair);
  return pair;
}

/**
 * Uses new certificates without a restart. The folders are watched, not the files: Kubernetes replaces a mounted secret
 * by moving a link beside it.
 */
function reloadOnChange(server: HttpsServer, tls: TlsFiles, log: Log): () => void {
  let current = fingerprint(tls);
  let timer: NodeJS.Timeout | undefined;
  let failed = '';
  const reload = () => {
    const next = fingerprint(tls);
    if (next === current || next === failed) return;
    try {
      server.setSecureContext(readPair(tls));
      current = next;
      failed = '';
      tls.onReload('ok');
      log.info({ file: tls.certFile }, 'certificate read again');
    } catch (error) {
      // The files may be half replaced; the next change, or the next look, tries again.
      failed = next;
      tls.onReload('failed');
      log.warn({ err: error, file: tls.certFile }, 'the new certificate cannot be used; the old one stays');
    }
  };
  const soon = () => {
    clearTimeout(timer);
    timer = setTimeout(reload, 100);
    timer.unref();
  };
  const folders = [...new Set([dirname(tls.certFile), dirname(tls.keyFile)])].filter((folder) => existsSync(folder));
  const watchers: FSWatcher[] = folders.map((folder) => watch(folder, { persistent: false }, soon));
  for (const watcher of watchers)
    watcher.on('error', (error) => log.warn({ err: error }, 'certificates are not watched'));
  // Some file systems tell of no changes.
  const slowly = setInterval(reload, 60_000);
  slowly.unref();
  return () => {
    clearTimeout(timer);
    clearInterval(slowly);
    for (const watcher of watchers) watcher.close();
  };
}

function fingerprint({ certFile, keyFile }: TlsFiles): string {
  try {
    return readFileSync(certFile, 'utf8') + readFileSync(keyFile, 'utf8');
  } catch {
    return '';
  }
}
