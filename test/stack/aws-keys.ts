/** Owns access keys: finds the principal of a signed request, and issues STS's temporary credentials. */
import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import type { Clock } from '../../src/lib/clock.ts';
import { AwsError } from './aws-xml.ts';

export interface Principal {
  readonly account: string;
  readonly arn: string;
  readonly userId: string;
  /** The role behind a session. */
  readonly roleArn?: string;
  /** The session's tags, and the keys of the transitive tags, which it passes on when it assumes a further role. */
  readonly tags?: Readonly<Record<string, string>>;
  readonly transitive?: readonly string[];
  /** The session policy, as JSON text: the session may do what both it and the role allow. */
  readonly policy?: string | undefined;
}

export interface Key {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Only temporary credentials have a session token; every request with them must carry it. */
  readonly sessionToken?: string;
  readonly expiresAt?: number;
  readonly principal: Principal;
}

export interface KeyRing {
  /** Creates a key that never expires, such as an IAM user's or the demo service's. */
  addLasting(principal: Principal): Key;
  addTemporary(principal: Principal, seconds: number): Key;
  /** The principal of a signed request; the signature itself is not checked. Throws AWS's error where there is none. */
  authenticate(headers: IncomingHttpHeaders): Key;
}

export function accessKeyIdOf(headers: IncomingHttpHeaders): string | undefined {
  return /Credential=([^/\s,]+)\//.exec(headers.authorization ?? '')?.[1];
}

export function createKeyRing(clock: Clock): KeyRing {
  const keys = new Map<string, Key>();
  let count = 0;
  const add = (prefix: string, principal: Principal, rest: Partial<Key>): Key => {
    count += 1;
    const accessKeyId = `${prefix}${String(count).padStart(20 - prefix.length, '0')}`;
    const key: Key = { accessKeyId, secretAccessKey: randomBytes(30).toString('base64'), principal, ...rest };
    keys.set(accessKeyId, key);
    return key;
  };
  return {
    addLasting: (principal) => add('AKIASTACK', principal, {}),
    addTemporary: (principal, seconds) =>
      add('ASIASTACK', principal, {
        sessionToken: randomBytes(96).toString('base64'),
        expiresAt: clock.now() + seconds * 1000,
      }),
    authenticate(headers) {
      const accessKeyId = accessKeyIdOf(headers);
      if (accessKeyId === undefined) throw new AwsError('MissingAuthenticationToken');
      const key = keys.get(accessKeyId);
      if (!key) throw new AwsError('InvalidClientTokenId');
      if (key.sessionToken !== undefined && headers['x-amz-security-token'] !== key.sessionToken) {
        throw new AwsError('InvalidClientTokenId');
      }
      if (key.expiresAt !== undefined && key.expiresAt <= clock.now()) throw new AwsError('ExpiredToken');
      return key;
    },
  };
}

/** The AWS account of a request; `unknown` when its key would be refused. */
export function accountOf(keys: KeyRing, headers: IncomingHttpHeaders): string {
  try {
    return keys.authenticate(headers).principal.account;
  } catch {
    return 'unknown';
  }
}
