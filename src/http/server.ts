/** Owns the HTTP(S) server: limits on clients, certificates that reload when they change, and a close that drains. */
import { existsSync, type FSWatcher, readFileSync, watch } from 'node:fs';
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http';
import { createServer as createHttpsServer, type Server as HttpsServer } from 'node:https';
import { dirname } from 'node:path';
import { createSecureContext } from 'node:tls';
import type { Log } from '../lib/log.ts';
import { type Address, bind } from './bind.ts';
import { capConnections } from './connections.ts';
import { answerRefusals } from './node-refusals.ts';

export interface Listening {
  /** The address that the system reports. */
  address: string;
  port: number;
  /** Accepts no new connection, waits up to `graceMs` milliseconds for requests in flight, then closes all. */
  drain(graceMs: number): Promise<void>;
}

export interface TlsFiles {
  certFile: string;
  keyFile: string;
  /** Called after each reload of the files. */
  onReload: (outcome: 'ok' | 'failed') => void;
}

/** The limits on a client, in milliseconds and bytes. */
export const serverLimits = {
  /** From the connection, or the previous request, to the last header. */
  headersTimeout: 10_000,
  /** To the last byte of the body. */
  requestTimeout: 30_000,
  /** How often Node checks these two. */
  connectionsCheckingInterval: 1_000,
  handshakeTimeout: 10_000,
  /** Longer than load balancers keep idle connections. */
  keepAliveTimeout: 65_000,
  /** Without a byte in either direction: longer than the service takes for any answer. */
  silence: 150_000,
  /** Enough for the token of a user with several hundred roles, and for other headers. */
  maxHeaderSize: 32 * 1024,
};

export interface ListenOptions extends Address {
  maxConnections: number;
  limits?: Partial<typeof serverLimits>;
}

/** Listens without TLS where `tls` is undefined. @throws where the address or the certificate cannot be used. */
export async function listen(
  handler: RequestListener,
  { maxConnections, limits, ...at }: ListenOptions,
  tls: TlsFiles | undefined,
  log: Log,
): Promise<Listening> {
  const { silence, ...options } = { ...serverLimits, ...limits };
  // The application itself refuses a missing host, with a problem.
  const own = { ...options, requireHostHeader: false };
  const server = tls ? createHttpsServer({ ...own, ...readPair(tls) }, handler) : createHttpServer(own, handler);
  server.timeout = silence;
  // `readBody` sends the 100 Continue where it wants the body.
  server.on('checkContinue', (req, res) => server.emit('request', req, res));
  answerRefusals(server, log);
  capConnections(server, maxConnections, warnAtMost(log, maxConnections));
  const stopWatching = tls ? reloadOnChange(server as HttpsServer, tls, log) : () => undefined;
  const { address, port } = await bind(server, at);
  return {
    address,
    port,
    drain: async (graceMs) => {
      stopWatching();
      await drain(server, graceMs);
    },
  };
}

/** Logs at most one line a minute. */
function warnAtMost(log: Log, max: number): () => void {
  let toldAt = Number.NEGATIVE_INFINITY;
  return () => {
    if (performance.now() - toldAt < 60_000) return;
    toldAt = performance.now();
    log.warn({ max }, 'there are as many connections as MAX_CONNECTIONS allows: some are cut');
  };
}

function drain(server: Server | HttpsServer, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => server.closeAllConnections(), graceMs);
    // A busy connection becomes idle after its answer, and its client would keep it open.
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
  // Throws where the key does not belong to the certificate: one of the files was replaced between the two reads.
  createSecureContext(pair);
  return pair;
}

/**
 * Uses new certificates without a restart. It watches the folders, not the files, since Kubernetes replaces a mounted
 * secret by moving a link beside it.
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
      // The files may be half replaced; the next change, or the next check, tries again.
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
  // Some file systems report no changes.
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
