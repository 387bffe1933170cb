/**
 * Owns the CAs that the sidecar trusts for TLS: the configured file, Node's CAs, the machine's CAs.
 *
 * The sidecar tries them one after the other and does not merge them: parsing all CAs for each connection takes 8 MB that
 * are not released. The result is the same, since a chain ends in one anchor, and nothing is sent before a handshake succeeds.
 */
import type { SecureContext } from 'node:tls';
import { Broken } from './broken.ts';
import { tls } from './builtins.ts';
import { readText } from './config-file.ts';

export interface Trust {
  /** Each function makes a set of trust anchors; it is called only when the sets before it refused the certificate. */
  readonly anchors: readonly (() => SecureContext)[];
  /** Set where the configured file cannot be used: why. */
  readonly problem: string | undefined;
}

/** Each context is made at most once, when it is first needed: it holds memory that the garbage collector does not see. */
const systemAnchors = [
  // Node's list, with `NODE_EXTRA_CA_CERTS`.
  once(() => tls.createSecureContext({})),
  once(() => tls.createSecureContext({ ca: tls.getCACertificates('system') })),
];
let given: { ca: string; context: SecureContext } | undefined;

export const systemTrust: Trust = { anchors: systemAnchors, problem: undefined };

/** Reads the file anew, since certificates rotate. If the file cannot be used, only the system's CAs are trusted. */
export function readTrust(certFile: string | undefined): Trust {
  if (certFile === undefined) return systemTrust;
  const file = readText(certFile);
  // OpenSSL would silently accept a file without a certificate.
  if (file.text === undefined || !/-----BEGIN (TRUSTED )?CERTIFICATE-----/.test(file.text)) {
    const problem = file.text === undefined ? file.code : 'there is no certificate in it';
    return { anchors: systemAnchors, problem: `DOMINO_IRSA_SSL_CERT cannot be used: ${problem}` };
  }
  const ca = file.text;
  // The file may have the service's own certificate in place of a CA: it is an anchor only with a partial chain.
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
 * Runs `attempt` with each set of anchors in turn, until it succeeds or fails for a reason other than the certificate.
 * @throws what `attempt` throws; where no set accepts the certificate, a Broken with the codes of all refusals.
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
