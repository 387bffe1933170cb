/**
 * Owns which CAs the sidecar trusts at the other end of a TLS connection: the file that it was given, Node's CAs, the
 * machine's CAs.
 *
 * They are tried one after the other and not merged: parsing all CAs for each connection takes 8 MB that stay. The
 * outcome is the same, since a chain ends in one anchor; and nothing is sent before a handshake succeeded.
 */
import type { SecureContext } from 'node:tls';
import { Broken } from './broken.ts';
import { tls } from './builtins.ts';
import { readText } from './config-file.ts';

export interface Trust {
  /** Each makes a set of trust anchors; made only when those before it did not do. */
  readonly anchors: readonly (() => SecureContext)[];
  /** Why the file is not part of it, when it is not. */
  readonly problem: string | undefined;
}

/** Each context is made once, where it is needed at all: it holds memory that the collector does not see. */
const systemAnchors = [
  // Node's list, with `NODE_EXTRA_CA_CERTS`.
  once(() => tls.createSecureContext({})),
  once(() => tls.createSecureContext({ ca: tls.getCACertificates('system') })),
];
let given: { ca: string; context: SecureContext } | undefined;

export const systemTrust: Trust = { anchors: systemAnchors, problem: undefined };

/** Reads the file anew, since certificates rotate. A file that cannot be used leaves the system's CAs. */
export function readTrust(certFile: string | undefined): Trust {
  if (certFile === undefined) return systemTrust;
  const file = readText(certFile);
  // OpenSSL would pass over a file without one in silence.
  if (file.text === undefined || !/-----BEGIN (TRUSTED )?CERTIFICATE-----/.test(file.text)) {
    const problem = file.text === undefined ? file.code : 'there is no certificate in it';
    return { anchors: systemAnchors, problem: `DOMINO_IRSA_SSL_CERT cannot be used: ${problem}` };
  }
  const ca = file.text;
  // The file may hold the service's own certificate and not a CA: that is an anchor only with a partial chain.
  if (given?.ca !== ca) given = { ca, context: tls.createSecureContext({ ca, allowPartialTrustChain: true }) };
  const { context } = given;
  return { anchors: [() => context, ...systemAnchors], problem: undefined };
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

/**
 * Runs `attempt` with each set of anchors until the certificate is not what it fails on.
 * @throws what `attempt` throws; where every set was refused, a Broken that names what each one found wrong.
 */
export async function withTrust<T>(trust: Trust, attempt: (secureContext: SecureContext) => Promise<T>): Promise<T> {
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
