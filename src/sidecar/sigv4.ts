/**
 * Owns the signature of a call to AWS, Signature Version 4:
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 *
 * Written by hand, since only one call needs it and libraries would use more memory than the sidecar may take. Pure.
 */
import { crypto } from './builtins.ts';

export interface Session {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
}

export interface Unsigned {
  method: string;
  /** Without a query. */
  url: URL;
  /** All of these are signed, and `host` too. */
  headers: Readonly<Record<string, string>>;
  body: string;
  region: string;
  service: string;
  /** Milliseconds since the epoch. */
  now: number;
}

const algorithm = 'AWS4-HMAC-SHA256';

/** @returns the headers to send: those of the call, with the date, the session token and the signature. */
export function sign(call: Unsigned, session: Session): Record<string, string> {
  const time = `${new Date(call.now).toISOString().slice(0, 19).replace(/[-:]/g, '')}Z`;
  const headers = { ...call.headers, 'x-amz-date': time, 'x-amz-security-token': session.sessionToken };
  const signed = Object.entries({ ...headers, host: call.url.host })
    .map(([name, value]) => [name.toLowerCase(), value.trim().replace(/ +/g, ' ')] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const names = signed.map(([name]) => name).join(';');
  const lines = signed.map(([name, value]) => `${name}:${value}\n`).join('');
  const canonical = [call.method, call.url.pathname, '', lines, names, sha256(call.body)].join('\n');
  const scope = [time.slice(0, 8), call.region, call.service, 'aws4_request'];
  const toSign = [algorithm, time, scope.join('/'), sha256(canonical)].join('\n');
  const key = scope.reduce<Buffer | string>((secret, part) => hmac(secret, part), `AWS4${session.secretAccessKey}`);
  const credential = `${session.accessKeyId}/${scope.join('/')}`;
  const signature = hmac(key, toSign).toString('hex');
  const authorization = `${algorithm} Credential=${credential}, SignedHeaders=${names}, Signature=${signature}`;
  return { ...headers, authorization };
}

const sha256 = (text: string) => crypto.hash('sha256', text);
const hmac = (key: Buffer | string, text: string) => crypto.createHmac('sha256', key).update(text).digest();
