/**
 * Owns whom the side-car trusts at the other end of a TLS connection: the file that it was given, Node's CAs, the
 * machine's CAs.
 *
 * They are tried one after the other and not merged: parsing all CAs for each connection takes 8 MB that stay. The
 * outcome is the same, since a chain ends in one anchor; and nothing is sent before a handshake succeeded.
 */
import { readFile } from 'node:fs/promises';
import type { SecureContextOptions } from 'node:tls';
import { Broken } from './exchange.ts';
import { errorCode } from './failure.ts';

// Fetched by name, as node:http is in exchange.ts: as modules they load what is never used.
const { X509Certificate } = process.getBuiltinModule('node:crypto');
const { getCACertificates } = process.getBuiltinModule('node:tls');

export interface Trust {
  /** Each makes a set of trust anchors; made only when those before it did not do. */
  readonly anchors: readonly (() => SecureContextOptions)[];
  /** Why the file is not part of it, when it is not. */
  readonly problem: string | undefined;
}

const systemAnchors = [
  // Node's list, with `NODE_EXTRA_CA_CERTS`.
  () => ({}),
  () => ({ ca: getCACertificates('system') }),
];

export const systemTrust: Trust = { anchors: systemAnchors, problem: undefined };

/** Reads the file anew, since certificates rotate. A file that cannot be used leaves the system's CAs. */
export async function readTrust(certFile: string | undefined): Promise<Trust> {
  if (certFile === undefined) return systemTrust;
  try {
    const pem = await readFile(certFile, 'utf8');
    // Throws where there is no certificate in it: OpenSSL would pass over that in silence.
    new X509Certificate(pem);
    // The file may hold the service's own certificate and not a CA: that is an anchor only with a partial chain.
    const given = () => ({ ca: pem, allowPartialTrustChain: true });
    return { anchors: [given, ...systemAnchors], problem: undefined };
  } catch (error) {
    return { ...systemTrust, problem: `DOMINO_IRSA_SSL_CERT cannot be used: ${errorCode(error)}` };
  }
}

/**
 * Runs `attempt` with each set of anchors until the certificate is not what it fails on.
 * @throws what `attempt` throws; where every set was refused, a Broken that names what each one found wrong.
 */
export async function withTrust<T>(trust: Trust, attempt: (tls: SecureContextOptions) => Promise<T>): Promise<T> {
  const refusals = new Set<string>();
  let last: unknown;
  for (const anchors of trust.anchors) {
    try {
      return await attempt(anchors());
    } catch (error) {
      if (!(error instanceof Broken) || error.kind !== 'certificate') throw error;
      refusals.add(error.code);
      last = error;
    }
  }
  throw new Broken('certificate', [...refusals, trust.problem].filter(Boolean).join('; '), last);
}
