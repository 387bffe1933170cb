/** Owns whom the side-car trusts to be the IRSA service: the system's CAs, and the file that it was given. */
import { X509Certificate } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { getCACertificates, type SecureContextOptions } from 'node:tls';
import { errorCode } from './failure.ts';

export interface Trust {
  readonly options: SecureContextOptions;
  /** Why the file is not part of it, when it is not. */
  readonly problem: string | undefined;
}

/** Reads the file anew, since certificates rotate. A file that cannot be used leaves the system's CAs alone. */
export async function readTrust(certFile: string | undefined): Promise<Trust> {
  if (certFile === undefined) return { options: {}, problem: undefined };
  try {
    const pem = await readFile(certFile, 'utf8');
    // Throws where there is no certificate in it: OpenSSL would pass over that in silence.
    new X509Certificate(pem);
    // The file may hold the service's own certificate and not a CA: that is an anchor only with a partial chain.
    return { options: { ca: [...systemCertificates(), pem], allowPartialTrustChain: true }, problem: undefined };
  } catch (error) {
    return { options: {}, problem: `DOMINO_IRSA_SSL_CERT cannot be used: ${errorCode(error)}` };
  }
}

/** Node's own list, with `NODE_EXTRA_CA_CERTS`, and the machine's where `--use-system-ca` is set. */
function systemCertificates(): string[] {
  return getCACertificates('default');
}
