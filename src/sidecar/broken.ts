/** Owns the kinds of failed HTTP calls: no answer came, or none that can be used. */
import { errorCode } from './failure.ts';

export type BrokenKind =
  | 'timeout'
  | 'unknown_host'
  | 'unreachable'
  | 'certificate'
  | 'tls'
  | 'cut'
  | 'too_long'
  | 'proxy';

/** `code` is the system's (`ECONNRESET`) or OpenSSL's (`CERT_HAS_EXPIRED`), or a description where neither has a code. */
export class Broken extends Error {
  readonly kind: BrokenKind;
  readonly code: string;

  constructor(kind: BrokenKind, code: string, cause?: unknown) {
    super(`${kind}: ${code}`, cause === undefined ? {} : { cause });
    this.name = 'Broken';
    this.kind = kind;
    this.code = code;
  }
}

export function broken(error: unknown): Broken {
  if (error instanceof Broken) return error;
  const code = errorCode(error);
  return new Broken(kindOf(code), code, error);
}

/** OpenSSL's names: https://nodejs.org/api/tls.html#x509-certificate-error-codes */
function kindOf(code: string): BrokenKind {
  if (/^(CERT_|CRL_|UNABLE_TO_|SELF_SIGNED|DEPTH_ZERO|INVALID_|HOSTNAME|ERR_TLS_CERT|ERROR_IN_)/.test(code)) {
    return 'certificate';
  }
  if (/^(ERR_SSL|ERR_TLS|ERR_OSSL|EPROTO)/.test(code)) return 'tls';
  if (/^(ENOTFOUND|EAI_)/.test(code)) return 'unknown_host';
  if (/^(ECONNREFUSED|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|ENETDOWN)$/.test(code)) return 'unreachable';
  return code === 'ETIMEDOUT' ? 'timeout' : 'cut';
}
