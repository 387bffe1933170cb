/** Owns whether the realm whose keys are fetched is the one whose tokens are accepted, as its discovery document says. */
import { boundedText } from '../lib/bounded-text.ts';

export type IssuerVerdict =
  /** The realm issues tokens under the configured name. */
  | { kind: 'same' }
  /** It does not, so that no token of it will ever be accepted. */
  | { kind: 'other'; issuer: string }
  /** The document cannot be had, or says nothing that decides. */
  | { kind: 'unknown' };

const keysPath = '/protocol/openid-connect/certs';
const maxDocumentBytes = 256 * 1024;

/**
 * Asks the realm itself, by the address of its keys: only the operator's settings and Keycloak decide, and no token.
 * OpenID Connect Discovery 1.0 section 4, https://www.keycloak.org/securing-apps/oidc-layers
 */
export async function askRealmIssuer(jwksUrl: string, issuer: string, timeoutMs: number): Promise<IssuerVerdict> {
  if (!jwksUrl.endsWith(keysPath)) return { kind: 'unknown' };
  const url = `${jwksUrl.slice(0, -keysPath.length)}/.well-known/openid-configuration`;
  try {
    const response = await fetch(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) });
    if (response.status !== 200) {
      await response.body?.cancel();
      return { kind: 'unknown' };
    }
    const found: unknown = JSON.parse(await boundedText(response, maxDocumentBytes));
    const said = typeof found === 'object' && found !== null && 'issuer' in found ? found.issuer : undefined;
    return typeof said === 'string' ? compareIssuers(said, issuer, url) : { kind: 'unknown' };
  } catch {
    return { kind: 'unknown' };
  }
}

/**
 * @param said the issuer that the realm names when it is asked at `url`. A Keycloak without a fixed host name takes the one
 * that it was asked by, which may be an inner one, and says nothing then of the name in tokens; its realm decides still.
 */
export function compareIssuers(said: string, issuer: string, url: string): IssuerVerdict {
  if (said === issuer) return { kind: 'same' };
  if (!URL.canParse(said) || !URL.canParse(issuer)) return { kind: 'other', issuer: said };
  const [realm, accepted] = [new URL(said), new URL(issuer)];
  const isOwnName = realm.origin !== new URL(url).origin;
  return isOwnName || realm.pathname !== accepted.pathname ? { kind: 'other', issuer: said } : { kind: 'unknown' };
}
