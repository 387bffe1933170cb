/** Owns the stand-in Keycloak realm: its signing keys, its tokens, and forged tokens for tests. */
import { createHmac, generateKeyPairSync, type KeyObject, sign, verify } from 'node:crypto';
import type { Clock } from '../../src/lib/clock.ts';

interface RealmKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

/** How a token differs from a valid one. Times are seconds since the epoch. */
export interface TokenOverrides {
  exp?: number;
  iat?: number;
  nbf?: number;
  iss?: string;
  aud?: string | string[];
  kid?: string;
  /** `none` leaves the signature out; `HS256` signs with the public key's PEM as the secret, a classic forgery. */
  alg?: 'RS256' | 'none' | 'HS256';
  /** `stranger` signs with a key that the realm never had, under the realm's `kid`. */
  signer?: 'realm' | 'stranger';
  /** The header's `typ`; by default `JWT`. */
  typ?: string;
  /** More claims, or other values; `undefined` removes one. */
  claims?: Record<string, unknown>;
}

export interface Realm {
  readonly issuer: string;
  token(user: { name: string; subject: string; admin: boolean }, overrides?: TokenOverrides): string;
  /** Replaces the signing key. The old keys stay published and valid only with `keepOld`. */
  rotateKeys(options?: { keepOld?: boolean }): void;
  keySet(): { keys: Record<string, unknown>[] };
  /** The claims of a valid token of this realm; undefined where it is expired or has another signature. */
  verify(token: string): Record<string, unknown> | undefined;
}

let made = 0;
const newKey = (): RealmKey => {
  made += 1;
  return { kid: `realm-key-${made}`, ...generateKeyPairSync('rsa', { modulusLength: 2048 }) };
};
let stranger: RealmKey | undefined;

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

export function createRealm(issuer: string, clock: Clock): Realm {
  let keys = [newKey()];
  const current = () => keys[0] as RealmKey;

  function signature(input: string, { alg, signer }: TokenOverrides): string {
    if (alg === 'none') return '';
    if (alg === 'HS256') {
      const pem = current().publicKey.export({ type: 'spki', format: 'pem' });
      return createHmac('sha256', pem).update(input).digest('base64url');
    }
    if (signer === 'stranger') stranger ??= newKey();
    const key = signer === 'stranger' && stranger ? stranger : current();
    return sign('RSA-SHA256', Buffer.from(input), key.privateKey).toString('base64url');
  }

  return {
    issuer,
    token(user, overrides = {}) {
      const iat = overrides.iat ?? Math.floor(clock.now() / 1000);
      const claims = {
        exp: overrides.exp ?? iat + 300,
        iat,
        ...(overrides.nbf === undefined ? {} : { nbf: overrides.nbf }),
        iss: overrides.iss ?? issuer,
        aud: overrides.aud ?? ['flyteadmin', 'domino-platform', 'toolkit-client'],
        sub: user.subject,
        typ: 'Bearer',
        azp: 'domino-play',
        realm_access: { roles: ['offline_access', 'uma_authorization'] },
        email: `${user.name}@example.com`,
        preferred_username: user.name,
        given_name: user.name,
        user_groups: ['/roles/Practitioner', ...(user.admin ? ['/roles/SysAdmin'] : [])],
        ...overrides.claims,
      };
      const header = {
        alg: overrides.alg ?? 'RS256',
        typ: overrides.typ ?? 'JWT',
        kid: overrides.kid ?? current().kid,
      };
      const input = `${encode(header)}.${encode(claims)}`;
      return `${input}.${signature(input, overrides)}`;
    },
    rotateKeys({ keepOld = false } = {}) {
      keys = keepOld ? [newKey(), ...keys] : [newKey()];
    },
    keySet() {
      const signing = keys.map(({ kid, publicKey }) => {
        return { ...publicKey.export({ format: 'jwk' }), kid, use: 'sig', alg: 'RS256' };
      });
      // Keycloak publishes an encryption key beside its signing keys, which a verifier must ignore.
      const encryption = { ...current().publicKey.export({ format: 'jwk' }), use: 'enc', alg: 'RSA-OAEP' };
      return { keys: [{ ...encryption, kid: `${current().kid}-enc` }, ...signing] };
    },
    verify(token) {
      const [header = '', payload = '', signed = ''] = token.split('.');
      try {
        const { alg, kid } = JSON.parse(Buffer.from(header, 'base64url').toString());
        const key = keys.find((candidate) => candidate.kid === kid);
        if (alg !== 'RS256' || !key) return undefined;
        const input = Buffer.from(`${header}.${payload}`);
        if (!verify('RSA-SHA256', input, key.publicKey, Buffer.from(signed, 'base64url'))) return undefined;
        const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
        return claims.exp * 1000 > clock.now() ? claims : undefined;
      } catch {
        return undefined;
      }
    },
  };
}
